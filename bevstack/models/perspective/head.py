"""The perspective head: DD3D (arXiv 2108.06417) on the pyramid of every camera image.

Letters: I images (cameras of all samples, selected by the caller), L levels, C channels, K classes,
A attributes, P locations of all levels of one image: finest level first, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.perspective import RELU, SOFTPLUS, PerspectiveConfig
from bevstack.models.layers.logits import CLASS_PRIOR
from bevstack.models.layers.norms import build_map_norm, run_block
from bevstack.models.perspective.predictors import build_predictor, predict
from bevstack.shapes import expect_shape

_MIN_INVERSE_DEPTH = 1e-3  # 1 / metres: beyond any depth_range_m
_SOFTPLUS_BETA_M = 100.0  # softplus changes inverse depths below about 1 / this, to stay positive

# The predictions in PerspectiveOutput, in the order of its fields.
_Predictions = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class PerspectiveOutput:
    """Predictions at every location of every image, in float32 or wider.

    3D quantities are predicted for each class separately, and are raw:
    ``bevstack.models.perspective.decode`` turns them into boxes.
    """

    logits: Tensor  # (I, P, K)
    ltrb_px: Tensor  # (I, P, 4) distances to the left, top, right and bottom side, >= 0
    centerness: Tensor  # (I, P) logit
    # wxyz, of any length, relative to the ray to the centre; for attitude "yaw" the cosine and sine
    # of the yaw, scaled by any length, and two unused numbers
    quaternion: Tensor  # (I, P, 4, K)
    center_offset_px: Tensor  # (I, P, 2, K) from the location to the projected 3D centre
    depth: Tensor  # (I, P, K) metres; without ground, before scaling by the focal length
    size: Tensor  # (I, P, 3, K) of (length, width, height): canonical * (1 + tanh) metres
    confidence: Tensor  # (I, P, K) logit
    attributes: Tensor  # (I, P, A) logits
    speed_mps: Tensor  # (I, P); may be negative with activation "linear", which means 0
    locations_px: Tensor  # (P, 2) (u, v)
    level_sizes: tuple[int, ...]  # L: number of locations of each level

    @property
    def levels(self) -> Tensor:  # (P,) int64
        """Return the level of every location."""
        device = self.locations_px.device
        return torch.cat(
            [torch.full((n,), level, device=device) for level, n in enumerate(self.level_sizes)]
        )


class PerspectiveHead(nn.Module):
    """Three convolution towers shared by all levels, with predictors on top.

    Convolutions are shared over levels; each level has its own norms and scales. The class tower
    predicts class logits, attributes and speed; the 2D box tower the image box and its centerness;
    the 3D box tower a 3D box of every class (channels are components first, then classes).

    With ``config.changes.ground_z_m`` the head also gets the inverse depth of the ground at each
    location (``ground_inverse_depth``) as input to the towers. It then predicts the difference
    between a box's inverse depth and the ground's. In one image, this difference is the same for
    all objects that touch the ground equally many pixels below the location.

    With ``config.official_parity`` all biases start at 0, as in the released code; by default every
    class starts at a probability of 0.01 (focal loss, arXiv 1708.02002, section 3.3).

    Args:
        config: the perspective section of the configuration.
        channels: C, of the pyramid.
    """

    def __init__(self, config: PerspectiveConfig, *, channels: int) -> None:
        super().__init__()
        if config.norm == "GN" and channels % config.norm_groups:
            raise ValueError(
                f"perspective.norm_groups must divide fpn.channels = {channels}; "
                f"got {config.norm_groups}"
            )
        self.config = config
        self.ground = None if config.changes.ground_z_m is None else nn.Conv2d(2, channels, 1)
        self.class_tower = LevelTower(config, channels=channels)
        self.box2d_tower = LevelTower(config, channels=channels)
        self.box3d_tower = LevelTower(config, channels=channels)
        classes = config.num_classes
        self.logits = build_predictor(config, channels, classes)
        self.attributes = build_predictor(config, channels, config.num_attributes)
        self.speed = build_predictor(config, channels, 1)
        self.ltrb = build_predictor(config, channels, 4)
        self.centerness = build_predictor(config, channels, 1)
        self.quaternion = build_predictor(config, channels, 4 * classes)
        self.center_offset = build_predictor(config, channels, 2 * classes)
        self.depth = build_predictor(config, channels, classes, bias=False)
        self.size = build_predictor(config, channels, 3 * classes)
        self.confidence = build_predictor(config, channels, classes)
        strides = [float(stride) for stride in config.strides]
        self.ltrb_scales = _level_parameters(strides)
        self.center_offset_scales = _level_parameters(strides)
        self._init_depths()
        self.size_scales = _level_parameters([1.0] * len(strides))
        self.confidence_scales = _level_parameters([1.0] * len(strides))
        self.init_weights()

    def _init_depths(self) -> None:
        """Set the initial scale and offset of each level's depth: metres, or 1 / metres."""
        config = self.config
        if self.ground is None:
            scales = [config.depth_gain * std for std in config.std_depth_m]
            offsets = list(config.mean_depth_m)
        else:
            scales = [config.depth_gain / mean for mean in config.mean_depth_m]
            offsets = [0.5 / mean for mean in config.mean_depth_m]
        self.depth_scales = _level_parameters(scales)
        self.depth_offsets = _level_parameters(offsets)

    def init_weights(self) -> None:
        """Initialise predictors Kaiming-uniform (a = 1), biases zero; not the towers."""
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if not self.config.official_parity and self.logits.bias is not None:
            nn.init.constant_(self.logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def forward(
        self,
        pyramid: Sequence[Tensor],  # L x (I, C, H_l, W_l)
        ground: Sequence[Tensor] | None = None,  # L x (I, H_l, W_l), 1 / metres
    ) -> PerspectiveOutput:
        """Return the predictions at every location of every level.

        I may be 0: batch norms then keep their statistics, and all parameters are in the graph.

        Raises:
            ValueError: the number of levels is not that of the strides; or ``ground`` is missing
                for a configuration with ground, or given for one without.
        """
        levels = len(self.config.strides)
        if len(pyramid) != levels:
            raise ValueError(
                f"pyramid must have a level for each of the strides {self.config.strides}; got "
                f"{len(pyramid)} levels: set fpn.num_outputs to {levels}"
            )
        if (ground is None) != (self.ground is None):
            wanted, got = ("be given", "None") if ground is None else ("be None", "a tensor")
            height = self.config.changes.ground_z_m
            raise ValueError(
                f"ground must {wanted}, because perspective.small_images.ground_z_m is {height}; "
                f"got {got}"
            )
        parts = [
            self._level(level, features, None if ground is None else ground[level])
            for level, features in enumerate(pyramid)
        ]
        shapes = [(int(x.shape[-2]), int(x.shape[-1])) for x in pyramid]
        locations = level_locations(shapes, self.config.strides, device=pyramid[0].device)
        joined = tuple(torch.cat(levels, 1) for levels in zip(*parts, strict=True))
        sizes = tuple(h * w for h, w in shapes)
        return PerspectiveOutput(*cast(_Predictions, joined), locations, sizes)

    def _level(
        self,
        level: int,
        features: Tensor,  # (I, C, H, W)
        ground: Tensor | None,  # (I, H, W)
    ) -> _Predictions:  # P being the number of the level's locations
        classes = self.config.num_classes
        if self.ground is not None and ground is not None:
            features = features + self.ground(_ground_channels(ground).to(features.dtype))
        class_map = self.class_tower(features, level)
        box2d_map = self.box2d_tower(features, level)
        box3d_map = self.box3d_tower(features, level)
        logits, attributes, speed = predict(class_map, self.logits, self.attributes, self.speed)
        ltrb, centerness = predict(box2d_map, self.ltrb, self.centerness)
        quaternion, offset, depth, size, confidence = predict(
            box3d_map, self.quaternion, self.center_offset, self.depth, self.size, self.confidence
        )
        if self.config.changes.speed_activation == RELU:
            speed = functional.relu(speed)
        depth = depth * self.depth_scales[level] + self.depth_offsets[level]
        if ground is not None:
            inverse = functional.softplus(depth + ground[:, None], beta=_SOFTPLUS_BETA_M)
            depth = 1 / inverse.clamp(min=_MIN_INVERSE_DEPTH)  # at 0 gradients would be NaN
        offset = offset * self.center_offset_scales[level]
        return (
            _flat(logits),
            _flat(self._sides(ltrb * self.ltrb_scales[level], level)),
            _flat(centerness).squeeze(-1),
            torch.unflatten(_flat(quaternion), -1, (4, classes)),
            torch.unflatten(_flat(offset), -1, (2, classes)),
            _flat(depth),
            torch.unflatten(_flat(size * self.size_scales[level]), -1, (3, classes)),
            _flat(confidence * self.confidence_scales[level]),
            _flat(attributes),
            _flat(speed).squeeze(-1),
        )

    def _sides(
        self,
        linear: Tensor,  # (I, 4, H, W) pixels
        level: int,
    ) -> Tensor:  # (I, 4, H, W) pixels
        """Return the distances to the sides; softplus keeps them and their gradient above 0."""
        if self.config.changes.sides_activation == SOFTPLUS:
            return functional.softplus(linear, beta=1 / self.config.strides[level])
        return functional.relu(linear)


class LevelTower(nn.Module):
    """Convolutions shared over the levels of a pyramid, each followed by a norm for each level."""

    def __init__(self, config: PerspectiveConfig, *, channels: int) -> None:
        super().__init__()
        self.activation_checkpointing = config.activation_checkpointing
        levels = len(config.strides)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(config.num_convs)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(
                build_map_norm(config.norm, channels, groups=config.norm_groups)
                for _ in range(levels)
            )
            for _ in range(config.num_convs)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise weights Kaiming-normal by fan-out for the ReLU that follows."""
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        features: Tensor,  # (I, C, H, W)
        level: int,
    ) -> Tensor:  # (I, C, H, W)
        """Apply each convolution, followed by the level's norm and ReLU."""
        for conv, norms in zip(self.convs, self.norms, strict=True):
            assert isinstance(norms, nn.ModuleList)
            if self.activation_checkpointing:
                block = nn.Sequential(conv, norms[level], nn.ReLU())
                features = run_block(block, features, checkpointed=True)
            else:
                features = functional.relu(norms[level](conv(features)))
        return features


def choose_images(
    pyramid: Sequence[Tensor],  # L x (B, N, C, H_l, W_l)
    chosen: Tensor,  # (B, N) bool
) -> tuple[Tensor, ...]:  # L x (I, C, H_l, W_l)
    """Return the features of the chosen images, sample by sample.

    In training these are the cameras with annotations, as in the released code, so that batch
    statistics and losses depend on no other camera.

    Raises:
        ValueError: ``chosen`` is not (B, N).
    """
    expect_shape("chosen", chosen, tuple(pyramid[0].shape[:2]))
    index = chosen.flatten().nonzero().squeeze(-1)
    return tuple(level.flatten(0, 1).index_select(0, index) for level in pyramid)


def level_locations(
    shapes: Sequence[tuple[int, int]],  # L x (H_l, W_l)
    strides: Sequence[int],
    *,
    device: torch.device | str,
) -> Tensor:  # (P, 2) float32
    """Return the position (u, v) of each feature in the image: (column, row) times the stride.

    These are the upper left corners of the cells, not their centres, as published weights expect.
    """
    locations = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        v, u = torch.meshgrid(
            torch.arange(height, device=device) * stride,
            torch.arange(width, device=device) * stride,
            indexing="ij",
        )
        locations.append(torch.stack((u.flatten(), v.flatten()), -1))
    return torch.cat(locations).float()


def ground_inverse_depth(
    locations_px: Tensor,  # (P, 2) (u, v)
    cam_from_image: Tensor,  # (I, 3, 3)
    bev_from_cam: Tensor,  # (I, 4, 4) float64
    *,
    ground_z_m: float,  # in the bev frame
) -> Tensor:  # (I, P) float32, 1 / metres
    """Return the inverse depth of the ground along the ray of each location.

    For a pinhole camera above a plane it is a linear function of the image's rows and columns: 0 at
    the horizon, negative above it. A camera less than 0.1 m above the ground counts as at 0.1 m.
    """
    homogeneous = functional.pad(locations_px.double(), (0, 1), value=1.0)  # (P, 3)
    up = bev_from_cam[:, 2:3, :3].double() @ cam_from_image.double()  # (I, 1, 3)
    rise = (homogeneous @ up.transpose(1, 2)).squeeze(-1)  # (I, P) metres a metre of depth
    height = (bev_from_cam[:, 2, 3].double() - ground_z_m).clamp(min=0.1)
    return (-rise / height[:, None]).float()


def _ground_channels(ground: Tensor) -> Tensor:  # (I, H, W) 1 / metres, to (I, 2, H, W)
    """Return the ground's inverse depth and the logarithm of it, both scaled to about 1."""
    return torch.stack((10 * ground, 0.5 * ground.clamp(min=0.01).log() + 1.5), 1)


def _level_parameters(values: Sequence[float]) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(torch.tensor([value])) for value in values)


def _flat(x: Tensor) -> Tensor:  # (I, channels, H, W) to (I, H * W, channels)
    return rearrange(x, "i c h w -> i (h w) c")
