"""Boxes of lights and signs at every location of a map of stride 4.

A detector without anchors: every object is a point, the centre of its box (CenterNet, arXiv
1904.07850). Letters: M images, C channels, H W the map, R regions, S kinds of box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.traffic import TrafficConfig
from bevstack.models.layers.logits import CLASS_PRIOR
from bevstack.types.traffic_batch import BOX_KINDS

STRIDE_PX = 4
CENTER_PX = 0.5  # of the first cell: two convolutions of stride 2 start at the first pixel
BASE_SIDE_PX = 10.0  # sides are predicted as the logarithm of their ratio to this
_NORM_GROUPS = 8
_MAX_LOG_SIDE = 5.0


class DenseOutput(NamedTuple):
    """Predictions at every location of the map."""

    features: Tensor  # (M, C, H, W)
    logits: Tensor  # (M, S, H, W) that the centre of a box of the kind is here
    boxes_px: Tensor  # (M, S, H, W, 4) left, top, right, bottom


class Regions(NamedTuple):
    """R boxes that the second part of the head looks into, without gradient."""

    image: Tensor  # (R,) int64
    kind: Tensor  # (R,) int64, of BOX_KINDS
    boxes_px: Tensor  # (R, 4)
    logits: Tensor  # (R,) of the location that predicted it


class DenseHead(nn.Module):
    """A top-down path from the backbone's stages to stride 4, and 3x3 convolutions on top.

    With ``pixel_channels``, two convolutions of stride 2 add what the image itself shows: a lamp of
    few pixels may be lost in a backbone that is trained for boxes alone.
    """

    def __init__(self, config: TrafficConfig, *, in_channels: Sequence[int]) -> None:
        super().__init__()
        channels = config.channels
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, channels, 1), nn.GroupNorm(_NORM_GROUPS, channels))
            for c in in_channels
        )
        self.pixels = _pixel_branch(config.pixel_channels, channels)
        layers: list[nn.Module] = []
        for _ in range(config.num_convs):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
            layers += [nn.GroupNorm(_NORM_GROUPS, channels), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.logits = nn.Conv2d(channels, len(BOX_KINDS), 1)
        self.boxes = nn.Conv2d(channels, 4 * len(BOX_KINDS), 1)
        assert self.logits.bias is not None and self.boxes.bias is not None  # built with one
        nn.init.constant_(self.logits.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
        nn.init.normal_(self.boxes.weight, std=0.01)
        nn.init.zeros_(self.boxes.bias)

    def forward(
        self,
        maps: Sequence[Tensor],  # of strides 4, 8, ...: (M, C_l, H_l, W_l)
        images: Tensor,  # (M, 3, H, W) from which they were made
    ) -> DenseOutput:
        """Predict at every location of the finest map."""
        merged: Tensor | None = None
        for lateral, level in zip(reversed(list(self.laterals)), reversed(maps), strict=True):
            x = lateral(level)
            if merged is not None:
                x = x + functional.interpolate(merged, size=x.shape[-2:])
            merged = x
        assert merged is not None  # there is at least one stage: TrafficConfig checks it
        if self.pixels is not None:
            merged = merged + self.pixels(images)
        features = self.tower(functional.relu(merged))
        logits = self.logits(features).float()
        return DenseOutput(features, logits, _boxes(self.boxes(features).float()))


def _pixel_branch(hidden: int, channels: int) -> nn.Sequential | None:
    if not hidden:
        return None
    return nn.Sequential(
        nn.Conv2d(3, hidden, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(_NORM_GROUPS, hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(_NORM_GROUPS, channels),
    )


def cell_centers(height: int, width: int, device: torch.device) -> Tensor:  # (H, W, 2) u, v
    """Return the pixel at the centre of each cell."""
    v = torch.arange(height, device=device) * STRIDE_PX + CENTER_PX
    u = torch.arange(width, device=device) * STRIDE_PX + CENTER_PX
    return torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], -1)


def _boxes(raw: Tensor) -> Tensor:  # (M, 4 S, H, W) to (M, S, H, W, 4)
    """Return boxes from the offset of the centre in strides and the logarithms of the sides."""
    per_kind = torch.unflatten(raw, 1, (len(BOX_KINDS), 4)).movedim(2, -1)  # (M, S, H, W, 4)
    centers = cell_centers(int(raw.shape[-2]), int(raw.shape[-1]), raw.device)
    centers = centers + per_kind[..., :2] * STRIDE_PX
    half = per_kind[..., 2:].clamp(max=_MAX_LOG_SIDE).exp() * (BASE_SIDE_PX / 2)
    return torch.cat((centers - half, centers + half), -1)


@torch.no_grad()
def find_regions(
    output: DenseOutput,
    image_size: Tensor,  # (M, 2) (H, W)
    count: int,
) -> Regions:
    """Return the ``count`` best local maxima of every image, over all kinds, inside the image."""
    logits = output.logits.detach()
    images, _, height, width = logits.shape
    peaks = functional.max_pool2d(logits, 3, stride=1, padding=1) == logits
    centers = cell_centers(height, width, logits.device)
    inside = (centers < image_size.flip(-1)[:, None, None]).all(-1)  # (M, H, W)
    scores = logits.masked_fill(~(peaks & inside[:, None]), -math.inf).flatten(1)
    best, index = scores.topk(min(count, scores.shape[1]), dim=1)  # (M, R_m)
    row = torch.arange(images, device=logits.device)[:, None].expand_as(index)
    found = best.isfinite()
    boxes = output.boxes_px.detach().flatten(1, 3)[row[found], index[found]]
    return Regions(row[found], index[found] // (height * width), boxes, best[found])
