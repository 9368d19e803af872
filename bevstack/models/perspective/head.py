"""The perspective head: DD3D (arXiv 2108.06417) on the pyramid of every camera image.

Letters: I images (cameras of all samples, chosen by the caller), L levels, C channels, K classes,
A attributes, P locations of all levels of one image: finest level first, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.perspective import RELU, PerspectiveConfig
from bevstack.models.layers.logits import CLASS_PRIOR
from bevstack.models.layers.norms import build_map_norm, run_block
from bevstack.shapes import expect_shape

_LEAST_INVERSE = 1e-3  # 1 / metres: beyond any depth_range_m
_SHARPNESS_M = 100.0  # from depths of this order on, inverse depths stay positive by softplus


@dataclass(frozen=True)
class PerspectiveOutput:
    """What the head says at every location of every image; float32 at least.

    3D quantities are said for every class apart, raw: ``bevstack.models.perspective.decode`` makes
    boxes of them.
    """

    logits: Tensor  # (I, P, K)
    ltrb_px: Tensor  # (I, P, 4) distances to the left, top, right and bottom side, >= 0
    centerness: Tensor  # (I, P) logit
    # wxyz, of any length, seen along the ray to the centre; of attitude "yaw" its cosine and sine,
    # of any length, and two numbers that mean nothing
    quaternion: Tensor  # (I, P, 4, K)
    center_offset_px: Tensor  # (I, P, 2, K) from the location to where the 3D centre is seen
    depth: Tensor  # (I, P, K) metres; without ground, before the lens is accounted for
    size: Tensor  # (I, P, 3, K) of (length, width, height): canonical * (1 + tanh) metres
    confidence: Tensor  # (I, P, K) logit
    attributes: Tensor  # (I, P, A) logits
    speed_mps: Tensor  # (I, P); of the activation "linear" below 0, too, which means 0
    locations_px: Tensor  # (P, 2) (u, v)
    level_sizes: tuple[int, ...]  # L: how many of P each level has

    @property
    def levels(self) -> Tensor:  # (P,) int64
        """The level of every location."""
        counts = torch.tensor(self.level_sizes, device=self.locations_px.device)
        return torch.arange(len(counts), device=counts.device).repeat_interleave(
            counts, output_size=self.locations_px.shape[0]
        )


class PerspectiveHead(nn.Module):
    """Three convolution towers shared by all levels, and what is read from them.

    Convolutions are shared over levels; norms and scales are a level's own. Class logits,
    attributes and speed are read from the class tower, the image box and its centerness from the
    box tower, 3D boxes of every class (components major) from the third.

    With ``config.ground_z_m`` the head is also told the inverse depth of the ground at each
    location (``ground_seen_at``): the towers see it, and a box's inverse depth is said as what has
    to be added to it, which is the same for all that stand with their foot as far below.

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
        self.logits = _predictor(config, channels, classes)
        self.attributes = _predictor(config, channels, config.num_attributes)
        self.speed = _predictor(config, channels, 1)
        self.ltrb = _predictor(config, channels, 4)
        self.centerness = _predictor(config, channels, 1)
        self.quaternion = _predictor(config, channels, 4 * classes)
        self.center_offset = _predictor(config, channels, 2 * classes)
        self.depth = _predictor(config, channels, classes, bias=False)
        self.size = _predictor(config, channels, 3 * classes)
        self.confidence = _predictor(config, channels, classes)
        strides = [float(stride) for stride in config.strides]
        self.ltrb_scales = _of_levels(strides)
        self.center_offset_scales = _of_levels(strides)
        self._start_depths()
        self.size_scales = _of_levels([1.0] * len(strides))
        self.confidence_scales = _of_levels([1.0] * len(strides))
        self.init_weights()

    def _start_depths(self) -> None:
        """Where the depth of each level starts and how far it reaches: metres, or 1 / metres."""
        config = self.config
        if self.ground is None:
            scales = [config.depth_gain * std for std in config.std_depth_m]
            offsets = list(config.mean_depth_m)
        else:
            scales = [config.depth_gain / mean for mean in config.mean_depth_m]
            offsets = [0.5 / mean for mean in config.mean_depth_m]
        self.depth_scales, self.depth_offsets = _of_levels(scales), _of_levels(offsets)

    def init_weights(self) -> None:
        """Kaiming-uniform predictors (a = 1), zero biases; towers initialise themselves."""
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if not self.config.official_parity:
            nn.init.constant_(self.logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def forward(
        self,
        pyramid: Sequence[Tensor],  # L x (I, C, H_l, W_l)
        ground: Sequence[Tensor] | None = None,  # L x (I, H_l, W_l), 1 / metres
    ) -> PerspectiveOutput:
        """Says at every location of every level what stands there.

        I may be 0, which leaves the statistics of batch norms, and all parameters in the graph.

        Raises:
            ValueError: not as many levels as strides, or no ground where the configuration has one.
        """
        levels = len(self.config.strides)
        if len(pyramid) != levels:
            raise ValueError(
                f"pyramid must have a level for each of the strides {self.config.strides}; got "
                f"{len(pyramid)}: set fpn.num_outputs to {levels}"
            )
        if (ground is None) != (self.ground is None):
            wanted = "be given" if ground is None else "be none for a configuration without"
            height = self.config.changes.ground_z_m
            raise ValueError(
                f"ground must {wanted}: perspective.small_images.ground_z_m is {height}"
            )
        parts = [
            self._level(level, features, None if ground is None else ground[level])
            for level, features in enumerate(pyramid)
        ]
        shapes = [(int(x.shape[-2]), int(x.shape[-1])) for x in pyramid]
        locations = level_locations(shapes, self.config.strides, device=pyramid[0].device)
        joined = (torch.cat(of_levels, 1) for of_levels in zip(*parts, strict=True))
        return PerspectiveOutput(*joined, locations, tuple(h * w for h, w in shapes))

    def _level(
        self,
        level: int,
        features: Tensor,  # (I, C, H, W)
        ground: Tensor | None,  # (I, H, W)
    ) -> tuple[Tensor, ...]:
        """The tensors of ``PerspectiveOutput`` in their order, P being one level's locations."""
        classes = self.config.num_classes
        if self.ground is not None and ground is not None:
            features = features + self.ground(_told(ground).to(features.dtype))
        of_class = self.class_tower(features, level)
        of_box2d = self.box2d_tower(features, level)
        of_box3d = self.box3d_tower(features, level)
        logits, attributes, speed = _predict(of_class, self.logits, self.attributes, self.speed)
        ltrb, centerness = _predict(of_box2d, self.ltrb, self.centerness)
        quaternion, offset, depth, size, confidence = _predict(
            of_box3d, self.quaternion, self.center_offset, self.depth, self.size, self.confidence
        )
        if self.config.changes.speed_activation == RELU:
            speed = functional.relu(speed)
        depth = depth * self.depth_scales[level] + self.depth_offsets[level]
        if ground is not None:
            inverse = functional.softplus(depth + ground[:, None], beta=_SHARPNESS_M)
            depth = 1 / inverse.clamp(min=_LEAST_INVERSE)  # 0 would give gradients that are NaN
        offset = offset * self.center_offset_scales[level]
        return (
            _flat(logits),
            _flat(functional.relu(ltrb * self.ltrb_scales[level])),
            _flat(centerness).squeeze(-1),
            _flat(quaternion).unflatten(-1, (4, classes)),
            _flat(offset).unflatten(-1, (2, classes)),
            _flat(depth),
            _flat(size * self.size_scales[level]).unflatten(-1, (3, classes)),
            _flat(confidence * self.confidence_scales[level]),
            _flat(attributes),
            _flat(speed).squeeze(-1),
        )


class LevelTower(nn.Module):
    """Convolutions shared over the levels of a pyramid, each followed by a level's own norm."""

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
        """Kaiming-normal by fan-out for the ReLU that follows."""
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        features: Tensor,  # (I, C, H, W)
        level: int,
    ) -> Tensor:  # (I, C, H, W)
        """Convolution, the level's norm, ReLU, as often as there are convolutions."""
        for conv, norms in zip(self.convs, self.norms, strict=True):
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
    """The images that take part, sample by sample: in training the cameras with annotations.

    Batch statistics and losses then know of no other camera, as in the released code.
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
    """Where in the image (u, v) each feature stands: (column, row) times the stride.

    Corners, not centres, of the cells, as published weights have learnt them.
    """
    places = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        v, u = torch.meshgrid(
            torch.arange(height, device=device) * stride,
            torch.arange(width, device=device) * stride,
            indexing="ij",
        )
        places.append(torch.stack((u.flatten(), v.flatten()), -1))
    return torch.cat(places).float()


def ground_seen_at(
    locations_px: Tensor,  # (P, 2) (u, v)
    cam_from_image: Tensor,  # (I, 3, 3)
    bev_from_cam: Tensor,  # (I, 4, 4) float64
    *,
    ground_z_m: float,  # in the bev frame
) -> Tensor:  # (I, P) float32, 1 / metres
    """Inverse depth of the ground along the ray of each location: 0 at the horizon.

    Above the horizon it is negative: the same linear function of the image's rows and columns, as
    for a pinhole camera above a plane. A camera must be above the ground; lower than 0.1 m counts
    as 0.1 m.
    """
    homogeneous = functional.pad(locations_px.double(), (0, 1), value=1.0)  # (P, 3)
    up = bev_from_cam[:, 2:3, :3].double() @ cam_from_image.double()  # (I, 1, 3)
    rise = (homogeneous @ up.transpose(1, 2)).squeeze(-1)  # (I, P) metres a metre of depth
    height = (bev_from_cam[:, 2, 3].double() - ground_z_m).clamp(min=0.1)
    return (-rise / height[:, None]).float()


def _told(ground: Tensor) -> Tensor:  # (I, H, W) 1 / metres, to (I, 2, H, W) of about 1
    """The ground as the towers see it: its inverse depth, and the logarithm of its depth."""
    return torch.stack((10 * ground, 0.5 * ground.clamp(min=0.01).log() + 1.5), 1)


def _predictor(
    config: PerspectiveConfig, channels: int, outputs: int, *, bias: bool = True
) -> nn.Conv2d:
    size = config.predictor_size
    return nn.Conv2d(channels, outputs, size, padding=size // 2, bias=bias)


def _predict(
    features: Tensor,  # (I, C, H, W)
    *predictors: nn.Conv2d,
) -> list[Tensor]:  # each (I, outputs, H, W), float32 at least
    """All predictors of one tower in one convolution: narrow ones by themselves take longer."""
    weight = torch.cat([predictor.weight for predictor in predictors])
    biases = [
        predictor.weight.new_zeros(predictor.out_channels)
        if predictor.bias is None
        else predictor.bias
        for predictor in predictors
    ]
    said = _wide(functional.conv2d(features, weight, torch.cat(biases), padding="same"))
    return list(said.split([predictor.out_channels for predictor in predictors], 1))


def _of_levels(values: Sequence[float]) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(torch.tensor([value])) for value in values)


def _wide(x: Tensor) -> Tensor:
    """Out of half precision: depths and pixels need more than its eight bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _flat(x: Tensor) -> Tensor:  # (I, channels, H, W) to (I, H * W, channels)
    return rearrange(x, "i c h w -> i (h w) c")
