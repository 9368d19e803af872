"""Anchors: boxes of fixed sizes and shapes at every cell of a map (arXiv 1506.01497)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(
    stride: int,
    *,
    scale: float,
    ratios: Sequence[float],  # height over width
) -> Tensor:  # (A, 4)
    """Return the anchors of the first cell, centred on its top left corner, in pixels.

    All have the area ``(stride * scale)**2``.
    """
    roots = torch.tensor(ratios).sqrt()
    widths, heights = stride * (1 / roots) * scale, stride * roots * scale
    return torch.stack((-0.5 * widths, -0.5 * heights, 0.5 * widths, 0.5 * heights), -1)


def map_anchors(
    cell: Tensor,  # (A, 4) anchors of the first cell
    size: tuple[int, int],  # H, W of the map
    stride: int,
) -> Tensor:  # (H * W * A, 4)
    """Return the anchors of all cells: rows, then columns, then the anchors of a cell."""
    height, width = size
    y = torch.arange(height, dtype=cell.dtype, device=cell.device) * stride
    x = torch.arange(width, dtype=cell.dtype, device=cell.device) * stride
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((grid_x, grid_y, grid_x, grid_y), -1)  # (H, W, 4)
    return (shifts[:, :, None] + cell).flatten(0, 2)


def cells_in_picture(
    size: tuple[int, int],  # H, W of the map
    padded_size: tuple[int, int],  # height, width of this picture with its own padding, in pixels
    stride: int,
    *,
    num_anchors: int,  # A, of a cell
    device: torch.device | None = None,
) -> Tensor:  # (H * W * A,) bool
    """Return True for the anchors of cells that start within the padded picture."""
    rows, columns = (
        torch.arange(cells, device=device) < math.ceil(pixels / stride)
        for cells, pixels in zip(size, padded_size, strict=True)
    )
    inside = rows[:, None] & columns
    return inside[..., None].expand(-1, -1, num_anchors).flatten()


def anchors_within(
    anchors: Tensor,  # (N, 4)
    image_size: tuple[int, int],  # height, width
) -> Tensor:  # (N,) bool
    """Return True for anchors that do not reach over an edge of the picture."""
    height, width = image_size
    left, top, right, bottom = anchors.unbind(-1)
    return (left >= 0) & (top >= 0) & (right < width) & (bottom < height)
