"""Which box belongs to which track, against all the ways there are."""

import itertools
import math

import pytest
import torch

from bevstack.tracking.association import associate


def best_by_search(expected, found, same_class, reach_m):
    """The greatest sum of closeness over all ways to pair tracks with boxes or with none."""
    tracks, boxes = len(expected), len(found)
    best = 0.0
    for order in itertools.permutations([*range(boxes), *[None] * tracks], tracks):
        total = 0.0
        for i, j in enumerate(order):
            if j is None:
                continue
            apart = math.dist(expected[i].tolist(), found[j].tolist())
            if not same_class[i, j] or apart >= reach_m[i, j]:
                total = -math.inf
                break
            total += 1 - apart / float(reach_m[i, j])
        best = max(best, total)
    return best


@pytest.mark.parametrize(("tracks", "boxes", "seed"), [(3, 4, 0), (4, 3, 1), (4, 2, 2), (1, 4, 3)])
def test_the_pairs_are_the_closest_of_all(tracks, boxes, seed):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    expected, found = uniform(tracks, 2) * 4, uniform(boxes, 2) * 4
    same_class, reach_m = uniform(tracks, boxes) < 0.7, 1 + 2 * uniform(tracks, boxes)
    rows, columns = associate(expected, found, same_class, reach_m)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows) == len(columns) > 0
    apart = (expected[rows] - found[columns]).norm(dim=-1)
    assert bool(same_class[rows, columns].all()) and bool((apart < reach_m[rows, columns]).all())
    total = (1 - apart / reach_m[rows, columns]).sum().item()
    assert total == pytest.approx(best_by_search(expected, found, same_class, reach_m))


@pytest.mark.parametrize(("tracks", "boxes"), [(0, 3), (2, 0), (0, 0)])
def test_without_tracks_or_boxes_there_are_no_pairs(tracks, boxes):
    none = torch.zeros(tracks, boxes)
    rows, columns = associate(torch.zeros(tracks, 2), torch.zeros(boxes, 2), none == 0, none + 1)
    assert rows.tolist() == columns.tolist() == []


def test_what_lies_at_the_reach_or_is_of_another_class_is_no_pair():
    expected, found = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    same = torch.ones(1, 1, dtype=torch.bool)
    assert len(associate(expected, found, same, torch.tensor([[5.0]]))[0]) == 0
    assert len(associate(expected, found, same, torch.tensor([[5.01]]))[0]) == 1
    assert len(associate(expected, found, ~same, torch.tensor([[5.01]]))[0]) == 0
