from __future__ import annotations

import math

import pytest
import torch

from bevstack.models.layers.nms import suppress_in_bev
from tests.geometry.test_bev_iou import polygon, some_footprints


def naive_greedy(footprints, labels, valid, iou: float) -> list[bool]:
    shapes = [polygon(f) for f in footprints]
    kept: list[bool] = []
    for j, shape in enumerate(shapes):
        rivals = [shapes[i] for i in range(j) if kept[i] and labels[i] == labels[j]]
        shared = [r.intersection(shape).area for r in rivals]
        overlaps = [s / (r.area + shape.area - s) for s, r in zip(shared, rivals, strict=True)]
        kept.append(bool(valid[j]) and all(o <= iou for o in overlaps))
    return kept


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 70])
@pytest.mark.parametrize("iou", [0.0, 0.15, 0.3])
def test_suppression_is_the_greedy_one(batch: int, count: int, iou: float) -> None:
    some = some_footprints(batch * count, seed=count + batch, spread_m=4.0)
    footprints = some.view(batch, count, 5)
    labels = torch.arange(count).remainder(3).expand(batch, count)
    valid = torch.rand(batch, count, generator=torch.Generator().manual_seed(batch)) < 0.7
    got = suppress_in_bev(footprints, labels, valid=valid, iou=iou)
    assert got.shape == (batch, count)
    for b in range(batch):
        wanted = naive_greedy(footprints[b], labels[b], valid[b], iou)
        assert got[b].tolist() == wanted
        assert count < 2 or 0 < sum(wanted) < int(valid[b].sum())


def test_crossed_boxes_overlap_less_than_their_upright_hulls() -> None:
    """Two crossed boxes have IoU 2 * 2 / (20 + 20 - 4) = 0.11, although their centres agree."""
    crossed = torch.tensor([[[0.0, 0, 10, 2, 0.7], [0, 0, 10, 2, 0.7 + math.pi / 2]]])
    labels, valid = torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool)
    assert suppress_in_bev(crossed, labels, valid=valid, iou=0.12).tolist() == [[True, True]]
    assert suppress_in_bev(crossed, labels, valid=valid, iou=0.11).tolist() == [[True, False]]


def test_values_of_boxes_that_take_no_part_do_not_matter() -> None:
    footprints = some_footprints(8, seed=3)[None]
    footprints[:, 1::2] = math.nan
    labels, valid = torch.zeros(1, 8, dtype=torch.int64), torch.tensor([[True, False] * 4])
    got = suppress_in_bev(footprints, labels, valid=valid, iou=0.3)
    alone = suppress_in_bev(footprints[:, ::2], labels[:, ::2], valid=valid[:, ::2], iou=0.3)
    assert torch.equal(got[:, ::2], alone) and not got[:, 1::2].any()
