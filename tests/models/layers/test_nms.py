from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bevstack.models.layers import nms as perspective_nms
from bevstack.models.layers.nms import keep_best, pairwise_iou, suppress
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
    assert suppress(boxes, labels, iou=iou).tolist() == naive_greedy(boxes, labels, iou)


def test_long_chains_settle_and_blocks_of_rows_change_nothing(monkeypatch) -> None:
    """Each box overlaps only its neighbours, so every decision depends on the previous one."""
    left = torch.arange(41.0) * 4
    boxes = torch.stack((left, torch.zeros(41), left + 7, torch.ones(41)), -1)
    labels = torch.zeros(41, dtype=torch.int64)
    monkeypatch.setattr(perspective_nms, "ROWS_AT_ONCE", 6)
    assert suppress(boxes, labels, iou=0.2).tolist() == [i % 2 == 0 for i in range(41)]


def test_overlap_equals_loops_and_boxes_without_area_overlap_nothing() -> None:
    first, second = some_boxes(7, seed=1), some_boxes(9, seed=2)
    second[0, 2] = second[0, 0]
    second[1, 2:] = second[1, :2]
    got = pairwise_iou(first, second)
    wanted = [[naive_iou(a, b) for b in second.tolist()] for a in first.tolist()]
    torch.testing.assert_close(got, torch.tensor(wanted))
    assert not pairwise_iou(second[1:2], second[1:2]).any()


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
