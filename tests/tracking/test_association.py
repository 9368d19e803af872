"""Assignment of boxes to tracks, against a search over all assignments."""

import itertools
import math

import pytest
import torch

from bevstack.tracking.association import associate, choose_starts


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


@pytest.mark.parametrize("seed", range(4))
def test_starts_are_those_of_greedy_suppression_around_boxes_with_a_track(seed):
    draw = torch.Generator().manual_seed(seed)
    centers = torch.rand(30, 2, generator=draw, dtype=torch.float64) * 6
    scores, labels = torch.rand(30, generator=draw), torch.randint(0, 2, (30,), generator=draw)
    has_track = torch.rand(30, generator=draw) < 0.2
    owners = set(has_track.nonzero()[:, 0].tolist())
    wanted = set()
    for row in sorted(set(range(30)) - owners, key=lambda row: -float(scores[row])):
        same = [other for other in owners | wanted if labels[other] == labels[row]]
        if all(math.dist(centers[row], centers[other]) >= 0.8 for other in same):
            wanted.add(row)
    starts = choose_starts(centers, scores, labels, has_track, 0.8)
    assert set(starts.nonzero()[:, 0].tolist()) == wanted
    assert 0 < len(wanted) < 30 - len(owners)


def test_without_a_gap_every_box_without_a_track_starts_one():
    has_track = torch.tensor([False, True, False])
    same = torch.zeros(3, 2, dtype=torch.float64)
    starts = choose_starts(same, torch.ones(3), torch.zeros(3).long(), has_track, 0.0)
    assert starts.tolist() == [True, False, True]
    none = choose_starts(same[:0], torch.ones(0), torch.zeros(0).long(), has_track[:0], 1.0)
    assert none.tolist() == []
