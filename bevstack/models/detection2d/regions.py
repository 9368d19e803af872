"""Features of regions: RoIAlign on the level of a pyramid that fits the region's size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.ops import roi_align

FINEST_PX = 56  # regions with a smaller root of their area than twice this use the finest level
STRIDES = (4, 8, 16, 32)  # of the levels that regions use, pixels


def region_levels(
    rois: Tensor,  # (R, 5) index in the batch and box
    levels: int,
) -> Tensor:  # (R,) int64
    """Return the level of each region (arXiv 1612.03144, equation 1)."""
    sides = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
    level = torch.floor(torch.log2(sides.sqrt() / FINEST_PX + 1e-6))
    return level.clamp(0, levels - 1).long()


def region_features(
    pyramid: Sequence[Tensor],  # L x (B, C, H_l, W_l), at least as many as STRIDES
    rois: Tensor,  # (R, 5) index in the batch and box, in pixels of the network's input
    cells: int,
) -> Tensor:  # (R, C, cells, cells)
    """Return the features of every region."""
    level_of_roi = region_levels(rois, len(STRIDES))
    output = pyramid[0].new_zeros((len(rois), pyramid[0].shape[1], cells, cells))
    for level, stride in enumerate(STRIDES):
        rows = (level_of_roi == level).nonzero()[:, 0]
        features = roi_align(pyramid[level], rois[rows], (cells, cells), spatial_scale=1 / stride)
        output = output.index_copy(0, rows, features.to(output.dtype))
    return output


def join_regions(
    boxes: Sequence[Tensor],  # B x (R_b, 4)
) -> Tensor:  # (R, 5)
    """Return the boxes of all images with the index of their image before them."""
    rows = [torch.cat((b.new_full((len(b), 1), i), b), 1) for i, b in enumerate(boxes)]
    return torch.cat(rows)
