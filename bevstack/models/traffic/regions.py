"""The second part of the head: what a region shows, from the map and from the image itself.

Colours come from the image, since a backbone that is trained for boxes with changed colours has
little reason to keep them. Letters: R regions, M images, C channels, G cells a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.traffic import TrafficConfig
from bevstack.models.traffic.dense import CENTER_PX, STRIDE_PX, Regions
from bevstack.types.traffic_batch import BOX_KINDS, TrafficViews
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, SIGN_MEANINGS

MAP_MARGIN = 2.0  # sides of the sampled square or rectangle over those of the box
IMAGE_MARGIN = 1.25
NUMBER_MARGIN = 1.0
_SPLIT = (1, 4, len(LIGHT_COLORS), len(LAMP_SHAPES), 1, len(SIGN_MEANINGS), 2, 2)
_MAX_LOG_SPREAD, _MIN_LOG_SPREAD = 1.0, -4.0
_GEOMETRY = 6 + len(BOX_KINDS)


@dataclass(frozen=True)
class RegionOutput:
    """Predictions of R regions, before calibration of the probabilities."""

    score: Tensor  # (R,) logit that the region is an element of its kind
    boxes_px: Tensor  # (R, 4) corrected boxes
    color: Tensor  # (R, len(LIGHT_COLORS)) logits
    shape: Tensor  # (R, len(LAMP_SHAPES)) logits
    pedestrian: Tensor  # (R,) logit
    meaning: Tensor  # (R, len(SIGN_MEANINGS)) logits
    speed_limit: Tensor  # (R, len(TrafficConfig.speed_limits_kmh)) logits
    depth: Tensor  # (R, 2) correction of the logarithm of the depth, and log of its spread
    aspect: Tensor  # (R, 2) turn of the face from the camera, rad, and log of its spread
    hidden: Tensor  # (R, D)


class RegionHead(nn.Module):
    """A small network on samples of the map and of the image within each region."""

    def __init__(self, config: TrafficConfig) -> None:
        super().__init__()
        self.map_cells, self.image_cells = config.roi_map_cells, config.roi_image_cells
        hidden = config.roi_channels
        self.pixels = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        from_image = 32 * (self.image_cells // 4) ** 2
        from_map = config.channels * self.map_cells**2
        self.num_inputs = from_image + from_map + _GEOMETRY
        self.trunk = nn.Sequential(
            nn.Linear(self.num_inputs, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.output = nn.Linear(hidden, sum(_SPLIT))
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)
        # Apart, so that weights without numbers fit a configuration without them
        self.speed_limit = NumberReader(config) if config.speed_limits_kmh else None

    def forward(
        self,
        features: Tensor,  # (M, C, H, W)
        views: TrafficViews,
        regions: Regions,
    ) -> RegionOutput:
        """Predict score, box, attributes, depth and heading of every region."""
        on_map = sample_boxes(
            features, regions, self.map_cells, margin=MAP_MARGIN, stride_px=STRIDE_PX
        )
        on_image = sample_boxes(
            views.images, regions, self.image_cells, margin=IMAGE_MARGIN, stride_px=1
        )
        parts = (self.pixels(on_image), on_map.flatten(1), _geometry(views, regions))
        hidden = self.trunk(torch.cat([part.float() for part in parts], 1))
        score, change, *factors, depth, aspect = self.output(hidden).float().split(_SPLIT, 1)
        color, shape, pedestrian, meaning = factors
        return RegionOutput(
            score=score[:, 0] + regions.logits,
            boxes_px=_moved(regions.boxes_px, change),
            color=color,
            shape=shape,
            pedestrian=pedestrian[:, 0],
            meaning=meaning,
            speed_limit=self._read_number(hidden, views, regions),
            depth=_bounded(depth),
            aspect=_bounded(aspect),
            hidden=hidden,
        )

    def _read_number(self, hidden: Tensor, views: TrafficViews, regions: Regions) -> Tensor:
        if self.speed_limit is None:
            return hidden.new_zeros(len(hidden), 0)
        logits: Tensor = self.speed_limit(hidden, views, regions)
        return logits.float()


class NumberReader(nn.Module):
    """The number on a sign for a speed limit, from finer samples of the image.

    A digit is a third of a sign wide, so the samples that show its kind are too coarse for it.
    """

    def __init__(self, config: TrafficConfig) -> None:
        super().__init__()
        self.cells = config.number_cells
        self.pixels = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        inputs = 32 * (self.cells // 4) ** 2 + config.roi_channels
        self.output = nn.Sequential(
            nn.Linear(inputs, config.roi_channels),
            nn.ReLU(),
            nn.Linear(config.roi_channels, len(config.speed_limits_kmh)),
        )

    def forward(
        self,
        hidden: Tensor,  # (R, D) of the regions
        views: TrafficViews,
        regions: Regions,
    ) -> Tensor:  # (R, len(TrafficConfig.speed_limits_kmh))
        """Return logits of the numbers."""
        samples = sample_boxes(views.images, regions, self.cells, margin=NUMBER_MARGIN, stride_px=1)
        logits: Tensor = self.output(torch.cat((self.pixels(samples), hidden), 1))
        return logits


def sample_boxes(
    maps: Tensor,  # (M, C, H, W)
    regions: Regions,
    cells: int,
    *,
    margin: float,
    stride_px: int,
) -> Tensor:  # (R, C, cells, cells)
    """Sample maps bilinearly at the centres of a grid over each box, enlarged by ``margin``.

    The rows of the result are in the order of the regions. Outside the map it is 0.
    """
    low, high = regions.boxes_px[:, :2], regions.boxes_px[:, 2:]
    steps = (torch.arange(cells, device=low.device) + 0.5) / cells - 0.5
    center, side = (low + high) / 2, (high - low) * margin
    u = center[:, :1] + side[:, :1] * steps  # (R, G)
    v = center[:, 1:] + side[:, 1:] * steps
    grid = torch.stack(
        (u[:, None].expand(-1, cells, -1), v[:, :, None].expand(-1, -1, cells)), -1
    )  # (R, G, G, 2)
    cell = (grid - CENTER_PX) / stride_px  # index of the map's cell
    size = cell.new_tensor((maps.shape[-1], maps.shape[-2]))
    normalised = (cell + 0.5) * 2 / size - 1  # grid_sample without aligned corners
    sampled = maps.new_zeros(len(low), maps.shape[1], cells, cells)
    for image in range(len(maps)):
        rows = (regions.image == image).nonzero()[:, 0]
        if len(rows):
            flat = normalised[rows].reshape(1, -1, cells, 2).to(maps.dtype)
            values = functional.grid_sample(maps[image : image + 1], flat, align_corners=False)
            found = torch.unflatten(values[0], 1, (len(rows), cells)).movedim(1, 0)
            sampled = sampled.index_copy(0, rows, found.to(sampled.dtype))
    return sampled


def _geometry(views: TrafficViews, regions: Regions) -> Tensor:  # (R, _GEOMETRY)
    """Return the size of each box, the direction of its centre, its kind and first score."""
    low, high = regions.boxes_px[:, :2], regions.boxes_px[:, 2:]
    sides = ((high - low).clamp(min=0.5) / 16).log()
    intrinsics = views.intrinsics[regions.image].to(low.dtype)
    focal, principal = intrinsics[:, (0, 1), (0, 1)], intrinsics[:, :2, 2]
    direction = ((low + high) / 2 - principal) / focal
    kinds = functional.one_hot(regions.kind, len(BOX_KINDS)).to(low.dtype)
    rest = torch.stack(((focal[:, 1] / 800).log(), regions.logits / 4), 1)
    return torch.cat((sides, direction, kinds, rest), 1)


def _moved(boxes_px: Tensor, change: Tensor) -> Tensor:  # (R, 4) both
    """Move boxes by a change of their centre in sides, and of the logarithm of their sides."""
    center, side = (boxes_px[:, :2] + boxes_px[:, 2:]) / 2, boxes_px[:, 2:] - boxes_px[:, :2]
    center = center + change[:, :2].clamp(-1, 1) * side
    half = side * change[:, 2:].clamp(-1, 1).exp() / 2
    return torch.cat((center - half, center + half), 1)


def _bounded(values: Tensor) -> Tensor:  # (R, 2)
    """Bound the logarithm of a spread, so that a loss by likelihood stays finite."""
    return torch.stack((values[:, 0], values[:, 1].clamp(_MIN_LOG_SPREAD, _MAX_LOG_SPREAD)), 1)
