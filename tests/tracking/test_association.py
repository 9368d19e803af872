"""Assignment of boxes to tracks, against a search over all assignments."""

import itertools
import math

import pytest
import torch

from bevstack.tracking.association import associate


def best_by_search(predicted, detected, same_class, reach_m):
    """Return the greatest sum of closeness over all assignments of boxes, or none, to tracks."""
    tracks, boxes = len(predicted), len(detected)
    best = 0.0
    for order in itertools.permutations([*range(boxes), *[None] * tracks], tracks):
        total = 0.0
        for i, j in enumerate(order):
            if j is None:
                continue
            distance = math.dist(predicted[i].tolist(), detected[j].tolist())
            if not same_class[i, j] or distance >= reach_m[i, j]:
                total = -math.inf
                break
            total += 1 - distance / float(reach_m[i, j])
        best = max(best, total)
    return best


@pytest.mark.parametrize(("tracks", "boxes", "seed"), [(3, 4, 0), (4, 3, 1), (4, 2, 2), (1, 4, 3)])
def test_pairs_have_the_greatest_total_closeness(tracks, boxes, seed):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    predicted, detected = uniform(tracks, 2) * 4, uniform(boxes, 2) * 4
    same_class, reach_m = uniform(tracks, boxes) < 0.7, 1 + 2 * uniform(tracks, boxes)
    rows, columns = associate(predicted, detected, same_class, reach_m)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows) == len(columns) > 0
    distances = (predicted[rows] - detected[columns]).norm(dim=-1)
    assert bool(same_class[rows, columns].all()) and bool(
        (distances < reach_m[rows, columns]).all()
    )
    total = (1 - distances / reach_m[rows, columns]).sum().item()
    assert total == pytest.approx(best_by_search(predicted, detected, same_class, reach_m))


@pytest.mark.parametrize(("tracks", "boxes"), [(0, 3), (2, 0), (0, 0)])
def test_without_tracks_or_boxes_there_are_no_pairs(tracks, boxes):
    none = torch.zeros(tracks, boxes)
    rows, columns = associate(torch.zeros(tracks, 2), torch.zeros(boxes, 2), none == 0, none + 1)
    assert rows.tolist() == columns.tolist() == []


def test_a_box_at_the_reach_or_of_another_class_is_no_pair():
    predicted, detected = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    same = torch.ones(1, 1, dtype=torch.bool)
    assert len(associate(predicted, detected, same, torch.tensor([[5.0]]))[0]) == 0
    assert len(associate(predicted, detected, same, torch.tensor([[5.01]]))[0]) == 1
    assert len(associate(predicted, detected, ~same, torch.tensor([[5.01]]))[0]) == 0
