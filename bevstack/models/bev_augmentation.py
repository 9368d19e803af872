"""Bird's-eye-view augmentation of feature maps (BDA), the counterpart of moved annotations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.geometry import BEVGrid
from bevstack.shapes import expect_shape


def resample_bev(
    bev: Tensor,  # (B, C, Y, X)
    bev_augmentation: Tensor | None,  # (B, 3, 3), augmented_bev_from_bev
    grid: BEVGrid,
) -> Tensor:  # (B, C, Y, X)
    """The map in the augmented frame: each cell takes what lies where it came from.

    Bilinear, zero outside. Images and rig stay as they are; annotations are augmented elsewhere by
    the same matrices. The published code samples at the inverse matrix times coordinates in
    [-1, 1]; going through metres is the same on its centred square grid and right on others.
    """
    if bev_augmentation is None:
        return bev
    expect_shape("bev_augmentation", bev_augmentation, (bev.shape[0], 3, 3))
    device = bev.device
    matrix = torch.linalg.inv(bev_augmentation.to(device, torch.float64))[:, :2, :2]
    low = torch.tensor(grid.low_m[:2], dtype=torch.float64, device=device)
    extent = torch.tensor(grid.extent_m[:2], dtype=torch.float64, device=device)
    cells_m = grid.cell_centers(torch.float64).to(device) * extent + low  # (Q, 2)
    source = (cells_m @ matrix.transpose(1, 2) - low) / extent  # (B, Q, 2) in [0, 1] on the grid
    source = (2 * source - 1).unflatten(1, grid.shape)
    dtype = torch.promote_types(bev.dtype, torch.float32)  # coordinates are never in half
    with torch.autocast(device.type, enabled=False):
        moved = functional.grid_sample(bev.to(dtype), source.to(dtype), align_corners=False)
    return moved.to(bev.dtype)
