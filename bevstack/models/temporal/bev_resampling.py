"""Resampling of BEV maps: by the vehicle's motion (arXiv 2211.10439, section 3.4), and by BDA.

Letters: B batch, T frames, C channels, Y X grid, Q = Y * X.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.geometry import BEVGrid, invert_se3
from bevstack.shapes import expect_shape


def warp_bev(
    bev: Tensor,  # (B, C, Y, X) on the grid in its own frame, "old"
    old_from_new: Tensor,  # (B, 4, 4) float64, metres; rigid, or any other affine map
    grid: BEVGrid,
) -> Tensor:  # (B, C, Y, X) on the grid in the frame "new"
    """The map seen from another frame: each new cell takes what lies there in the old map.

    Bilinear, zero outside. A map has no height: its cells lie in the plane z = 0 of the new frame,
    and of where they land only x and y count. Positions are computed in float64 and sampled in
    float32 or wider, whatever the map's type. Gradient reaches the map, not the motion.

    Raises:
        ValueError: shapes that disagree with each other or with the grid.
    """
    sizes = expect_shape("bev", bev, ("B", "C", *grid.shape))
    expect_shape("old_from_new", old_from_new, ("B", 4, 4), sizes)
    matrix = old_from_new.detach().to(bev.device, torch.float64)
    cells_m, low, extent = _cells(grid, bev.device)
    old_m = cells_m @ matrix[:, :2, :2].transpose(1, 2) + matrix[:, None, :2, 3]  # (B, Q, 2)
    return _sample(bev, 2 * (old_m - low) / extent - 1, grid)


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
    matrix = torch.linalg.inv(bev_augmentation.to(bev.device, torch.float64))[:, :2, :2]
    cells_m, low, extent = _cells(grid, bev.device)
    source = (cells_m @ matrix.transpose(1, 2) - low) / extent  # (B, Q, 2) in [0, 1] on the grid
    return _sample(bev, 2 * source - 1, grid)


def _cells(grid: BEVGrid, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Centres of the cells (Q, 2), low corner (2,) and extent (2,), in metres, float64."""
    low = torch.tensor(grid.low_m[:2], dtype=torch.float64, device=device)
    extent = torch.tensor(grid.extent_m[:2], dtype=torch.float64, device=device)
    return grid.cell_centers(torch.float64).to(device) * extent + low, low, extent


def _sample(
    bev: Tensor,  # (B, C, Y, X)
    source: Tensor,  # (B, Q, 2) in [-1, 1] on the grid, float64
    grid: BEVGrid,
) -> Tensor:  # (B, C, Y, X)
    dtype = torch.promote_types(bev.dtype, torch.float32)  # coordinates are never in half
    points = source.unflatten(1, grid.shape).to(dtype)
    with torch.autocast(bev.device.type, enabled=False):
        sampled = functional.grid_sample(bev.to(dtype), points, align_corners=False)
    return sampled.to(bev.dtype)


def align_history(
    maps: Tensor,  # (B, T, C, Y, X), each on the grid in its own frame's bev frame
    world_from_bev: Tensor,  # (B, T, 4, 4) float64, of each map
    world_from_current: Tensor,  # (B, 4, 4) float64, of the current frame
    grid: BEVGrid,
    bev_augmentation: Tensor | None = None,  # (B, 3, 3), augmented_bev_from_bev
) -> Tensor:  # (B, T, C, Y, X) on the grid in the current bev frame
    """Maps of other moments carried into the current frame, each by its own motion.

    With ``bev_augmentation`` they land in the augmented current frame in the same single
    resampling. Where a frame is missing any finite pose will do: what comes of it is not used.

    Raises:
        ValueError: shapes that disagree.
    """
    sizes = expect_shape("maps", maps, ("B", "T", "C", *grid.shape))
    expect_shape("world_from_bev", world_from_bev, ("B", "T", 4, 4), sizes)
    expect_shape("world_from_current", world_from_current, ("B", 4, 4), sizes)
    old_from_world = invert_se3(world_from_bev.to(torch.float64))
    old_from_new = old_from_world @ world_from_current.to(torch.float64)[:, None]
    if bev_augmentation is not None:
        expect_shape("bev_augmentation", bev_augmentation, ("B", 3, 3), sizes)
        current_from_augmented = torch.zeros_like(old_from_new[:, 0])
        current_from_augmented[:, :3, :3] = torch.linalg.inv(bev_augmentation.to(old_from_new))
        current_from_augmented[:, 3, 3] = 1.0
        old_from_new = old_from_new @ current_from_augmented[:, None]
    warped = warp_bev(maps.flatten(0, 1), old_from_new.flatten(0, 1), grid)
    return warped.unflatten(0, maps.shape[:2])
