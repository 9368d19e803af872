from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bevstack.models.layers import nms as perspective_nms
from bevstack.models.layers.nms import image_iou, keep_best, suppress
from bevstack.models.layers.sizes import Bounds, Sizes
from tests.models.perspective.test_decode import naive_iou


def some_boxes(count: int, *, seed: int = 0, spread: float = 30.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread
    size = torch.rand(count, 2, generator=generator) * 20
    return torch.cat((corner, corner + size), -1)


def naive_greedy(boxes: Tensor, labels: Tensor, iou: float) -> list[bool]:
    kept: list[bool] = []
    for j in range(len(boxes)):
        rivals = [i for i in range(j) if kept[i] and labels[i] == labels[j]]
        overlaps = [naive_iou(boxes[i].tolist(), boxes[j].tolist()) for i in rivals]
        kept.append(all(overlap <= iou for overlap in overlaps))
    return kept


@pytest.mark.parametrize("count", [0, 1, 2, 90])
@pytest.mark.parametrize("iou", [0.0, 0.2, 0.75])
def test_suppression_is_the_greedy_one(count: int, iou: float) -> None:
    boxes = some_boxes(count, seed=count)
    labels = torch.arange(count) % 3
    valid = torch.ones(1, count, dtype=torch.bool)
    got = suppress(boxes[None], labels[None], valid=valid, iou=iou)
    assert got[0].tolist() == naive_greedy(boxes, labels, iou)


def test_long_chains_settle_and_blocks_of_rows_change_nothing(monkeypatch) -> None:
    """Each box overlaps only its neighbours, so every decision depends on the previous one."""
    left = torch.arange(41.0) * 4
    boxes = torch.stack((left, torch.zeros(41), left + 7, torch.ones(41)), -1)
    labels = torch.zeros(41, dtype=torch.int64)
    monkeypatch.setattr(perspective_nms, "PAIRS_AT_ONCE", 6 * 41)
    valid = torch.ones(1, 41, dtype=torch.bool)
    sizes = Sizes()
    got = suppress(boxes[None], labels[None], valid=valid, iou=0.2, sizes=sizes)
    assert got[0].tolist() == [i % 2 == 0 for i in range(41)]
    rounds = int(sizes.largest(boxes.device)[2])
    for bound, settled in ((rounds, True), (rounds - 1, False)):
        bounds = Bounds(pairs=0, candidates=41, rounds=bound, mirrored=0)
        fixed = Sizes(bounds)
        again = suppress(boxes[None], labels[None], valid=valid, iou=0.2, sizes=fixed)
        assert bounds.holds(Bounds(*fixed.largest(boxes.device).tolist())) == settled
        assert torch.equal(again, got) or not settled


def test_overlap_equals_loops_and_boxes_without_area_overlap_nothing() -> None:
    first, second = some_boxes(7, seed=1), some_boxes(9, seed=2)
    second[0, 2] = second[0, 0]
    second[1, 2:] = second[1, :2]
    got = image_iou(first[:, None], second)
    wanted = [[naive_iou(a, b) for b in second.tolist()] for a in first.tolist()]
    torch.testing.assert_close(got, torch.tensor(wanted))
    assert not image_iou(second[1:2], second[1:2]).any()


def test_the_best_by_rank_are_returned_in_the_order_of_scores() -> None:
    boxes = some_boxes(6, spread=1000.0).repeat(2, 1, 1)  # far apart: nothing is suppressed
    scores = torch.tensor(((1.0, 6, 2, 5, 3, 4), (6, 5, 4, 3, 2, 1)))
    ranks = torch.tensor(((9.0, 0, 8, 7, 1, 2), (1, 2, 3, 4, 5, 6)))
    valid = torch.tensor(((1, 1, 1, 1, 1, 1), (0, 1, 0, 0, 1, 0))).bool()
    labels = torch.zeros(2, 6, dtype=torch.int64)
    got = keep_best(boxes, scores, ranks, labels=labels, valid=valid, iou=0.5, count=3)
    assert got.tolist() == [[3, 2, 0], [1, 4, -1]]
    few = keep_best(boxes, scores, ranks, labels=labels, valid=valid, iou=0.5, count=50)
    assert few.shape == (2, 6)
