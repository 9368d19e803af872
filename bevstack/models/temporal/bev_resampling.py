"""Resampling of BEV maps by the vehicle's motion (arXiv 2211.10439, section 3.4) and by BDA.

BDA is augmentation of the BEV frame.

Letters: B batch, T frames, C channels, Y X grid, Q = Y * X.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.geometry import BEVGrid, constant, invert_se3
from bevstack.shapes import expect_shape


def warp_bev(
    bev: Tensor,  # (B, C, Y, X) on the grid in its own frame, "old"
    old_from_new: Tensor,  # (B, 4, 4) float64, metres; rigid, or any other affine map
    grid: BEVGrid,
) -> Tensor:  # (B, C, Y, X) on the grid in the frame "new"
    """Resample the old map at the cells of the grid in another frame.

    Bilinear, zero outside. A map has no height: cells lie in the plane z = 0 of the new frame, and
    only x and y of the transformed points are used. Positions are computed in float64 and sampled
    in float32 or wider, whatever the map's dtype. Gradient reaches the map, not the motion.

    Raises:
        ValueError: shapes that do not agree with each other or with the grid.
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
    """Resample the map to the augmented frame; return it unchanged without augmentation.

    Bilinear, zero outside. Images and rig are not augmented; annotations are augmented elsewhere by
    the same matrices. The published code multiplies coordinates in [-1, 1] by the inverse matrix.
    Coordinates in metres give the same on its centred square grid, and are correct on any grid.

    Raises:
        ValueError: ``bev_augmentation`` is not (B, 3, 3).
    """
    if bev_augmentation is None:
        return bev
    expect_shape("bev_augmentation", bev_augmentation, (bev.shape[0], 3, 3))
    matrix = torch.linalg.inv(bev_augmentation.to(bev.device, torch.float64))[:, :2, :2]
    cells_m, low, extent = _cells(grid, bev.device)
    source = (cells_m @ matrix.transpose(1, 2) - low) / extent  # (B, Q, 2) in [0, 1] on the grid
    return _sample(bev, 2 * source - 1, grid)


def _cells(grid: BEVGrid, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return cell centres (Q, 2), low corner (2,) and extent (2,), in metres, float64."""
    cells = grid.cell_centers(torch.float64, device=device)
    low, extent = constant(cells, grid.low_m[:2]), constant(cells, grid.extent_m[:2])
    return cells * extent + low, low, extent


def _sample(
    bev: Tensor,  # (B, C, Y, X)
    source: Tensor,  # (B, Q, 2) in [-1, 1] on the grid, float64
    grid: BEVGrid,
) -> Tensor:  # (B, C, Y, X)
    dtype = torch.promote_types(bev.dtype, torch.float32)  # coordinates are never in half
    points = torch.unflatten(source, 1, grid.shape).to(dtype)
    with torch.autocast(bev.device.type, enabled=False):
        sampled = functional.grid_sample(bev.to(dtype), points, align_corners=False)
    return sampled.to(bev.dtype)


def align_history(
    maps: Tensor,  # (B, T, C, Y, X), each on the grid in the bev frame of its own time
    world_from_bev: Tensor,  # (B, T, 4, 4) float64, of each map
    world_from_current: Tensor,  # (B, 4, 4) float64, of the current frame
    grid: BEVGrid,
    bev_augmentation: Tensor | None = None,  # (B, 3, 3), augmented_bev_from_bev
) -> Tensor:  # (B, T, C, Y, X) on the grid in the current bev frame
    """Resample the maps of past frames to the current frame, each by its own motion.

    With ``bev_augmentation`` the same single resampling leads to the augmented current frame.
    A missing frame needs a finite pose; its result is not used.

    Raises:
        ValueError: shapes that do not agree.
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
        current_from_augmented[:, 3, 3].fill_(1.0)
        old_from_new = old_from_new @ current_from_augmented[:, None]
    warped = warp_bev(maps.flatten(0, 1), old_from_new.flatten(0, 1), grid)
    return torch.unflatten(warped, 0, maps.shape[:2])
