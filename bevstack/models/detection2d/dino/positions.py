"""Positions of DINO: padding, encodings by sine, reference points, and logits of boxes.

Letters: B batch, L levels, S cells of all levels, Q queries, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.models.layers.sine_positions import waves

EPS = 1e-3  # of logits of places, which are between 0 and 1
CELL_SIZE = 0.05  # side of a proposal at the finest level, of the picture
MARGIN = 0.01  # proposals nearer to 0 or 1 are not used
POSITION_TEMPERATURE = 10_000.0  # of the encoding of reference boxes


class Levels(NamedTuple):
    """Shapes and padding of the maps of a batch."""

    shapes: list[tuple[int, int]]  # L x (H_l, W_l)
    padding: list[Tensor]  # L x (B, H_l, W_l) bool, True beyond the picture
    valid_ratios: Tensor  # (B, L, 2) share of columns and rows within the picture


def find_levels(
    maps: Sequence[Tensor],  # L x (B, C, H_l, W_l)
    image_sizes: Sequence[tuple[int, int]],  # B x (height, width) without padding
    padded: tuple[int, int],  # height, width of the batch
) -> Levels:
    """Return the cells of every level that lie in the padding of their picture."""
    mask = maps[0].new_ones((len(image_sizes), *padded))
    for row, (height, width) in enumerate(image_sizes):
        mask[row, :height, :width] = 0
    shapes = [(int(level.shape[2]), int(level.shape[3])) for level in maps]
    padding = [functional.interpolate(mask[None], size=shape)[0].bool() for shape in shapes]
    ratios = [
        torch.stack(((~p[:, 0]).float().mean(1), (~p[:, :, 0]).float().mean(1)), -1)
        for p in padding
    ]
    return Levels(shapes, padding, torch.stack(ratios, 1))


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Return logits of places, at most those of ``EPS`` and 1 - ``EPS``."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=EPS) / (1 - x).clamp(min=EPS))


def encode_boxes(
    boxes: Tensor,  # (B, Q, 4) centre x, y, width, height
    channels: int,
) -> Tensor:  # (B, Q, 2 C) of y, x, width, height
    """Return sines of reference boxes."""
    angles = boxes * (2 * math.pi)
    parts = (angles[..., axis] for axis in (1, 0, 2, 3))
    return torch.cat([waves(x, channels // 2, POSITION_TEMPERATURE) for x in parts], -1)


def reference_points(levels: Levels) -> Tensor:  # (B, S, L, 2)
    """Return the centre of each cell within its picture, scaled to the maps of all levels."""
    ratios, points = levels.valid_ratios, []
    for level, (height, width) in enumerate(levels.shapes):
        y = torch.arange(height, device=ratios.device) + 0.5
        x = torch.arange(width, device=ratios.device) + 0.5
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centers = torch.stack((grid_x, grid_y), -1).flatten(0, 1)  # (H W, 2)
        sides = ratios[:, None, level] * ratios.new_tensor([width, height])
        points.append(centers / sides)
    return torch.cat(points, 1)[:, :, None] * ratios[:, None]


def cell_proposals(levels: Levels) -> tuple[Tensor, Tensor]:  # (B, S, 4), (B, S) bool
    """Return logits of a box at each cell, infinite where it is not usable, and the usable ones."""
    boxes, padding = [], []
    ratios = levels.valid_ratios
    for level, (height, width) in enumerate(levels.shapes):
        y = torch.arange(height, device=ratios.device) + 0.5
        x = torch.arange(width, device=ratios.device) + 0.5
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centers = torch.stack((grid_x, grid_y), -1).flatten(0, 1)
        inside = ~levels.padding[level]
        counts = torch.stack((inside[:, 0].sum(1), inside[:, :, 0].sum(1)), -1)
        places = centers / counts[:, None]  # (B, H W, 2)
        boxes.append(torch.cat((places, torch.full_like(places, CELL_SIZE * 2.0**level)), -1))
        padding.append(levels.padding[level].flatten(1))
    box = torch.cat(boxes, 1)
    usable = ((box > MARGIN) & (box < 1 - MARGIN)).all(-1) & ~torch.cat(padding, 1)
    logits = torch.log(box / (1 - box)).masked_fill(~usable[..., None], torch.inf)
    return logits, usable
