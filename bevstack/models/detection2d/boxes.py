"""Boxes in one picture: overlaps, clipping, and the code of a box relative to another one.

Boxes are (left, top, right, bottom) in pixels; pixel i covers [i, i + 1), so that a width is right
minus left. Letters: R boxes, T second boxes, K boxes predicted from each box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = abs(math.log(16 / 1000))  # of a predicted side to the side it is relative to
EPS = 1e-6  # smallest area that an overlap is divided by


def clip_boxes(
    boxes: Tensor,  # (..., 4)
    image_size: tuple[int, int],  # height, width
) -> Tensor:  # (..., 4)
    """Return boxes cut at the picture's edges."""
    height, width = image_size
    limits = boxes.new_tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(limits)


def pairwise_iou(
    first: Tensor,  # (R, 4)
    second: Tensor,  # (T, 4)
) -> Tensor:  # (R, T)
    """Return intersection over union of every pair."""
    intersection, union, _ = _areas(first[:, None], second[None])
    return intersection / union


def pairwise_giou(
    first: Tensor,  # (R, 4)
    second: Tensor,  # (T, 4)
) -> Tensor:  # (R, T)
    """Return the generalised overlap (arXiv 1902.09630) of every pair, -1 to 1."""
    return _giou(first[:, None], second[None])


def matched_giou(
    first: Tensor,  # (R, 4)
    second: Tensor,  # (R, 4)
) -> Tensor:  # (R,)
    """Return the generalised overlap of the boxes of each row."""
    return _giou(first, second)


def _giou(first: Tensor, second: Tensor) -> Tensor:
    intersection, union, hull = _areas(first, second)
    return intersection / union - (hull - union) / hull


def _areas(
    first: Tensor,  # (..., 4)
    second: Tensor,  # (..., 4), leading axes broadcast
) -> tuple[Tensor, Tensor, Tensor]:  # each (...)
    """Return the areas of intersection, union and common bounding box, the last two positive."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (first, second)]
    union = areas[0] + areas[1] - intersection
    outer_low = torch.minimum(first[..., :2], second[..., :2])
    outer_high = torch.maximum(first[..., 2:], second[..., 2:])
    hull = (outer_high - outer_low).clamp(min=0).prod(-1)
    return intersection, union.clamp(min=EPS), hull.clamp(min=EPS)


@dataclass(frozen=True)
class BoxCoder:
    """Code of a box relative to another one: shifts over its sides, logarithms of ratios of sides.

    R-CNN (arXiv 1311.2524, appendix C). Each of the four numbers is divided by its ``stds``.
    """

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def encode(
        self,
        boxes: Tensor,  # (R, 4), with positive sides
        targets: Tensor,  # (R, 4), with positive sides
    ) -> Tensor:  # (R, 4)
        """Return the codes that decode to the targets."""
        centers, sides = _centers_and_sides(boxes)
        target_centers, target_sides = _centers_and_sides(targets)
        shifts = (target_centers - centers) / sides
        codes = torch.cat((shifts, torch.log(target_sides / sides)), -1)
        return codes / codes.new_tensor(self.stds)

    def decode(
        self,
        boxes: Tensor,  # (R, 4)
        codes: Tensor,  # (R, 4 K), the four numbers of each box together
        image_size: tuple[int, int] | None = None,  # height, width; None: no clipping
    ) -> Tensor:  # (R, 4 K)
        """Return the boxes of the codes; ratios of sides are at most 62.5 either way."""
        codes = torch.unflatten(codes, -1, (-1, 4)) * codes.new_tensor(self.stds)  # (R, K, 4)
        centers, sides = (x[:, None] for x in _centers_and_sides(boxes))
        centers = centers + sides * codes[..., :2]
        sides = sides * codes[..., 2:].clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        decoded = torch.cat((centers - sides * 0.5, centers + sides * 0.5), -1)
        if image_size is not None:
            decoded = clip_boxes(decoded, image_size)
        return decoded.flatten(1)


def _centers_and_sides(
    boxes: Tensor,  # (..., 4)
) -> tuple[Tensor, Tensor]:  # each (..., 2)
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) * 0.5, high - low
