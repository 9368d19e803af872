from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bevstack.geometry import BEVGrid, invert_se3
from bevstack.models.temporal.bev_resampling import align_history, resample_bev, warp_bev
from tests.models import naive

GRID = BEVGrid(x_range_m=(-7, 5), y_range_m=(-3, 6), shape=(6, 8))  # neither centred nor square
WIDE = BEVGrid(x_range_m=(-20, 30), y_range_m=(-25, 15), shape=(80, 125))


def pose(yaw: float, x: float, y: float, z: float = 0.0, pitch: float = 0.0) -> Tensor:
    """Return a rigid motion: pitch about y, then yaw about z, then a translation."""
    cos, sin, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    turn = torch.tensor(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)), dtype=torch.float64)
    lift = torch.tensor(((cp, 0, sp), (0, 1, 0), (-sp, 0, cp)), dtype=torch.float64)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = turn @ lift
    matrix[:3, 3] = torch.tensor((x, y, z))
    return matrix


def cells_m(grid: BEVGrid) -> Tensor:  # (Y * X, 2)
    return grid.to_metres(torch.cat((grid.cell_centers(torch.float64),) * 2, 1)[:, :3])[:, :2]


@pytest.mark.parametrize("batch", [0, 1, 2, 3])
def test_each_cell_is_sampled_at_its_point_in_the_old_map(batch: int) -> None:
    motions = [pose(0.3 * b + 0.2, 1.5 - b, 0.7, 0.4, 0.05 * b) for b in range(batch)]
    motion = torch.stack(motions) if motions else torch.zeros(0, 4, 4).double()
    bev = torch.randn(batch, 3, 6, 8, dtype=torch.float64)
    warped = warp_bev(bev, motion, GRID)
    assert warped.shape == bev.shape
    for b in range(batch):
        for row in range(6):
            for column in range(8):
                x, y = -7 + 12 * (column + 0.5) / 8, -3 + 9 * (row + 0.5) / 6
                old = motion[b] @ torch.tensor((x, y, 0.0, 1.0), dtype=torch.float64)
                point = ((float(old[0]) + 7) / 12, (float(old[1]) + 3) / 9)
                wanted = naive.bilinear(bev[b].permute(1, 2, 0), *point)
                torch.testing.assert_close(warped[b, :, row, column], wanted, rtol=1e-9, atol=1e-9)


def ripple(points_m: Tensor) -> Tensor:
    """Return a smooth pattern in world coordinates, with wavelengths of 20 m and more."""
    x, y = points_m.unbind(-1)
    return torch.sin(0.3 * x + 0.1 * y) + torch.cos(0.2 * y - 0.15 * x)


def test_a_warped_pattern_is_the_pattern_in_the_new_frame() -> None:
    """Two streams of two old frames are far from the world's origin; every motion differs."""
    world_from_new = torch.stack((pose(0.5, 1800.0, 900.0), pose(-2.0, 400.0, 1210.0)))
    steps = torch.stack(
        (
            torch.stack((pose(0.2, -6.0, 1.0), pose(0.1, -3.0, 0.4))),
            torch.stack((pose(-0.3, -4.0, -2.0), pose(0.0, 0.0, 0.0))),
        )
    )
    world_from_old = world_from_new[:, None] @ steps
    patterns = []
    for poses in (world_from_old, world_from_new[:, None]):
        points = cells_m(WIDE) @ poses[..., :2, :2].transpose(-1, -2) + poses[..., None, :2, 3]
        patterns.append(ripple(points).unflatten(-1, WIDE.shape).unsqueeze(2))
    aligned = align_history(patterns[0].float(), world_from_old, world_from_new, WIDE)
    middle = torch.tensor((5.0, -5.0))  # its surroundings lie on all maps
    inside = ((cells_m(WIDE) - middle).abs().amax(-1) < 8).unflatten(0, WIDE.shape)
    assert inside.sum() > 500
    difference = (aligned - patterns[1].float()).abs()[..., inside]
    # Bilinear error: cell squared / 8 times the second derivatives, which are at most
    # 0.1 + 0.0625 for the two waves, and some float32 rounding.
    assert float(difference.max()) < 0.25 / 8 * 0.17
    # Warped by the inverse motion, or not at all, the pattern would differ.
    assert float((patterns[0] - patterns[1])[0].abs()[..., inside].max()) > 0.5


def test_standing_still_changes_nothing_and_beyond_the_old_map_is_zero() -> None:
    bev = torch.randn(2, 3, 6, 8)
    still = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    # Positions have float32 rounding of 1e-7 cells.
    torch.testing.assert_close(warp_bev(bev, still, GRID), bev, rtol=1e-5, atol=1e-5)
    far = still.clone()
    far[1, 0, 3] = 3.0  # forward by two cells of 1.5 m
    warped = warp_bev(bev, far, GRID)
    torch.testing.assert_close(warped[1, ..., :6], bev[1, ..., 2:], rtol=1e-5, atol=1e-5)
    assert not warped[1, ..., 6:].any()


def test_motion_and_augmentation_are_one_resampling() -> None:
    maps = torch.randn(1, 2, 3, 6, 8, dtype=torch.float64)
    here = pose(0.7, 30.0, 40.0)[None]
    augmentation = torch.diag(torch.tensor((-1.0, 1.0, 1.0), dtype=torch.float64))[None] * 1.04
    augmentation = augmentation @ pose(0.2, 0, 0)[None, :3, :3]
    # Without motion only the augmentation remains.
    got = align_history(maps, here[:, None].expand(1, 2, 4, 4), here, GRID, augmentation)
    for t in range(2):
        torch.testing.assert_close(got[:, t], resample_bev(maps[:, t], augmentation, GRID))
    # With motion a point of the augmented frame is transformed back, then moved.
    before = here @ invert_se3(pose(0.1, 1.0, 0.5))
    old_from_augmented = invert_se3(before) @ here
    whole = torch.eye(4, dtype=torch.float64)[None].clone()
    whole[:, :3, :3] = torch.linalg.inv(augmentation)
    got = align_history(maps, before[:, None].expand(1, 2, 4, 4), here, GRID, augmentation)
    wanted = warp_bev(maps[:, 0], old_from_augmented @ whole, GRID)
    torch.testing.assert_close(got[:, 0], wanted)


def test_half_precision_maps_are_sampled_at_exact_points_and_get_gradients() -> None:
    bev = torch.randn(1, 2, 80, 125)
    motion = pose(0.1, 2.0, -1.0)[None]
    exact = warp_bev(bev, motion, WIDE)
    half = warp_bev(bev.to(torch.bfloat16), motion, WIDE)
    assert half.dtype == torch.bfloat16
    # Input and output are rounded to 8 bits; rounded positions would err by whole values.
    torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=2e-2)
    bev.requires_grad_()
    warp_bev(bev, motion, WIDE).sum().backward()
    assert bev.grad.any()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bev must have shape \(B, C, 6, 8\)"):
        warp_bev(torch.zeros(1, 2, 8, 6), torch.eye(4)[None], GRID)
    with pytest.raises(ValueError, match=r"old_from_new must have shape \(B=2, 4, 4\)"):
        warp_bev(torch.zeros(2, 2, 6, 8), torch.eye(4)[None], GRID)
    with pytest.raises(ValueError, match=r"world_from_bev must have shape \(B=1, T=2, 4, 4\)"):
        align_history(torch.zeros(1, 2, 3, 6, 8), torch.eye(4)[None], torch.eye(4)[None], GRID)


def test_one_graph_serves_every_motion() -> None:
    maps, here = torch.randn(2, 3, 4, 6, 8), torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    torch.compiler.reset()
    compiled = torch.compile(align_history, backend="eager", fullgraph=True)
    for step in range(3):
        before = pose(0.1 * step, 1.0, -2.0).expand(2, 3, 4, 4)
        with torch.compiler.set_stance("fail_on_recompile" if step else "default"):
            got = compiled(maps, before, here, GRID)
        torch.testing.assert_close(got, align_history(maps, before, here, GRID))
