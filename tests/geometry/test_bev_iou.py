from __future__ import annotations

import math

import pytest
import torch
from shapely.geometry import Polygon
from torch import Tensor

from bevstack.geometry import bev_iou


def some_footprints(count: int, *, seed: int = 0, spread_m: float = 6.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    low = torch.tensor((-spread_m / 2, -spread_m / 2, 0.3, 0.2, -7.0), dtype=torch.float64)
    extent = torch.tensor((spread_m, spread_m, 8.0, 3.0, 14.0), dtype=torch.float64)
    return low + extent * uniform


def pairwise_bev_iou(first: Tensor, second: Tensor) -> Tensor:  # (..., A, B)
    return bev_iou(first[..., :, None, :], second[..., None, :, :])


def polygon(footprint: Tensor) -> Polygon:
    x, y, length, width, yaw = footprint.tolist()
    along = (math.cos(yaw) * length / 2, math.sin(yaw) * length / 2)
    across = (-math.sin(yaw) * width / 2, math.cos(yaw) * width / 2)
    return Polygon(
        [
            (x + a * along[0] + b * across[0], y + a * along[1] + b * across[1])
            for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))
        ]
    )


def naive_iou(first: Tensor, second: Tensor) -> Tensor:
    rows = []
    for a in first:
        for b in second:
            p, q = polygon(a), polygon(b)
            shared = p.intersection(q).area
            rows.append(shared / (p.area + q.area - shared))
    return torch.tensor(rows, dtype=torch.float64).view(len(first), len(second))


# float32: coordinates of a few metres have errors of 1e-6 m
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_iou_of_rotated_boxes_equals_that_of_their_polygons(
    dtype: torch.dtype, tolerance: float
) -> None:
    first, second = some_footprints(60, seed=1), some_footprints(50, seed=2)
    expected = naive_iou(first, second)
    assert 0.3 < float((expected > 0).double().mean()) < 0.95 and float(expected.max()) > 0.5
    iou = pairwise_bev_iou(first.to(dtype), second.to(dtype))
    assert iou.dtype == dtype
    torch.testing.assert_close(iou.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rounding_gives_disjoint_boxes_no_overlap(dtype: torch.dtype) -> None:
    first, second = some_footprints(80, seed=6), some_footprints(80, seed=7)
    iou = pairwise_bev_iou(first.to(dtype), second.to(dtype))
    distances_m = torch.tensor([[polygon(a).distance(polygon(b)) for b in second] for a in first])
    assert int((distances_m > 1e-3).sum()) > 500
    assert not iou[distances_m > 1e-3].any()


def test_shared_sides_and_corners_count_once() -> None:
    """Compare equal, nested, touching, crossed and disjoint boxes, most at quarter turns."""
    rows = [
        (0.0, 0.0, 4.0, 2.0, 0.0),
        (0.0, 0.0, 4.0, 2.0, math.pi),
        (0.0, 0.0, 4.0, 2.0, math.pi / 2),
        (0.0, 0.0, 2.0, 4.0, -math.pi / 2),
        (0.0, 2.0, 4.0, 2.0, 0.0),  # touches the first along a side
        (4.0, 2.0, 4.0, 2.0, 0.0),  # touches it in a corner
        (1.0, 0.5, 2.0, 1.0, 0.0),  # inside, in its corner
        (0.5, 0.0, 1.0, 0.5, math.pi / 4),
        (40.0, -30.0, 4.0, 2.0, 0.3),
        (0.0, 0.0, math.sqrt(2), math.sqrt(2), math.pi / 4),  # a diamond that just fits
    ]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        footprints = torch.tensor(rows, dtype=dtype)
        expected = naive_iou(footprints.double(), footprints.double())
        iou = pairwise_bev_iou(footprints, footprints)
        torch.testing.assert_close(iou.double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(iou.diagonal(), torch.ones(len(rows), dtype=dtype))


def test_iou_is_the_same_far_from_the_origin() -> None:
    footprints = some_footprints(30, seed=3)
    moved = footprints + torch.tensor((6e5, -4e6, 0, 0, 0), dtype=torch.float64)
    torch.testing.assert_close(
        pairwise_bev_iou(moved, moved), pairwise_bev_iou(footprints, footprints), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_leading_axes_are_batches(batch: int) -> None:
    first = some_footprints(batch * 4, seed=4).view(batch, 4, 5)
    second = some_footprints(batch * 7, seed=5).view(batch, 7, 5)
    iou = pairwise_bev_iou(first, second)
    assert iou.shape == (batch, 4, 7)
    for b in range(batch):
        torch.testing.assert_close(iou[b], pairwise_bev_iou(first[b], second[b]))


def test_boxes_without_area_and_no_boxes_overlap_nothing() -> None:
    line = torch.tensor([[0.0, 0, 3, 0, 0.4], [0, 0, 0, 0, 0]])
    box = torch.tensor([[0.0, 0, 4, 2, 0]])
    assert not pairwise_bev_iou(line, torch.cat((box, line))).any()
    assert pairwise_bev_iou(line[:0], box).shape == (0, 1)


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"second must have shape \(\.\.\., 5\); got \(1, 3, 4\)"):
        pairwise_bev_iou(torch.zeros(2, 5), torch.zeros(3, 4))
