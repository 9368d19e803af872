"""Masks of objects: from the cells of a box to the pixels of a picture, and back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.ops import roi_align


def paste_masks(
    masks: Tensor,  # (D, cells, cells) values of 0 to 1
    boxes: Tensor,  # (D, 4) pixels of the picture
    image_size: tuple[int, int],  # H, W
    *,
    threshold: float,
) -> Tensor:  # (D, H, W) bool
    """Return the pixels whose interpolated value is at least the threshold.

    A mask is sampled at the centres of pixels, and is zero beyond its box. Only the pixels around
    a box are computed. Boxes without area give no pixel.
    """
    height, width = image_size
    pasted = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    windows = torch.cat((boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1), 1).long()
    for index, (left, top, right, bottom) in enumerate(windows.tolist()):
        rows, columns = (max(top, 0), min(bottom, height)), (max(left, 0), min(right, width))
        if rows[0] >= rows[1] or columns[0] >= columns[1]:
            continue
        x1, y1, x2, y2 = boxes[index]
        y = _places(rows, y1, y2)
        x = _places(columns, x1, x2)
        grid = torch.stack((x[None].expand(len(y), -1), y[:, None].expand(-1, len(x))), -1)
        values = functional.grid_sample(
            masks[index][None, None], grid[None].to(masks.dtype), align_corners=False
        )
        pasted[index, rows[0] : rows[1], columns[0] : columns[1]] = values[0, 0] >= threshold
    return pasted


def _places(
    pixels: tuple[int, int],  # first, last + 1
    low: Tensor,  # ()
    high: Tensor,  # ()
) -> Tensor:  # (P,)
    """Return the places of centres of pixels within a side, -1 to 1; 0 for a side of length 0."""
    centers = torch.arange(*pixels, device=low.device, dtype=low.dtype) + 0.5
    places = (centers - low) / (high - low) * 2 - 1
    return places.masked_fill(places.isinf(), 0.0)


@torch.no_grad()
def mask_targets(
    masks: Tensor,  # (T, H, W) of 0 and 1, or bool
    boxes: Tensor,  # (R, 4) pixels
    objects: Tensor,  # (R,) int64, the mask of each box
    cells: int,
) -> Tensor:  # (R, cells, cells) float32 of 0 and 1
    """Return the part of each object's mask within a box, in cells at least half covered."""
    if not len(boxes):
        return boxes.new_zeros((0, cells, cells))
    rois = torch.cat((objects[:, None].to(boxes.dtype), boxes), 1)
    maps = masks[:, None].to(boxes.dtype)
    return (roi_align(maps, rois, (cells, cells), spatial_scale=1.0)[:, 0] >= 0.5).float()
