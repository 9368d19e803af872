"""Selection and order of the boxes that are drawn."""

from __future__ import annotations

import pytest
import torch

from bevstack.render import (
    PREDICTED,
    TRUE,
    BoxLayer,
    choose_detections,
    make_layers,
    select_detections,
)
from bevstack.types import Annotations, Boxes3D, Detections
from tests.render.scenes import NAMES, layer_of, make_boxes, random_detections


def test_best_detections_that_reach_the_score_are_kept_best_first() -> None:
    detections = random_detections(50, 2)
    kept = select_detections(detections, min_score=0.4, max_boxes=7)
    expected = sorted((s for s in detections.scores.tolist() if s >= 0.4), reverse=True)[:7]
    assert kept.scores.tolist() == expected
    for index in range(7):
        source = detections.scores.tolist().index(expected[index])
        assert torch.equal(kept.boxes.center[index], detections.boxes.center[source])
        assert kept.labels[index] == detections.labels[source]


def test_selection_is_empty_without_detections_score_or_room() -> None:
    empty = Detections(Boxes3D.empty(), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(select_detections(empty)) == 0
    assert len(select_detections(random_detections(9, 0), min_score=1.1)) == 0
    assert len(select_detections(random_detections(9, 0), min_score=0.0, max_boxes=0)) == 0


CAR, PERSON = [4.5, 1.9, 1.6], [0.7, 0.7, 1.7]


@pytest.mark.parametrize(
    ("size", "distance_m", "is_duplicate"),
    [
        (CAR, 1.5, True),  # 1.6 m is half of a car's mean side
        (CAR, 1.7, False),
        (CAR, 3.0, False),  # two lanes
        (PERSON, 0.45, True),
        (PERSON, 0.55, False),  # two people side by side
    ],
)
def test_a_near_duplicate_of_a_better_box_is_left_out(
    size: list[float], distance_m: float, is_duplicate: bool
) -> None:
    rows = [[10.0, y, z, *size, yaw, 0.0, 0.0] for y, z, yaw in ((0, 0, 0), (distance_m, 9, 2))]
    # The better one comes second; heights and classes differ.
    detections = Detections(make_boxes(rows), torch.tensor([0.5, 0.8]), torch.tensor([0, 1]))
    chosen = choose_detections(detections)
    assert chosen.rows.tolist() == ([1] if is_duplicate else [1, 0])
    assert chosen.duplicates == int(is_duplicate)


def test_boxes_of_a_chain_are_compared_with_kept_boxes_alone() -> None:
    rows = [[10.0, 1.2 * k, 0.0, *CAR, 0.0, 0.0, 0.0] for k in range(5)]
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    labels = torch.zeros(5, dtype=torch.int64)
    chosen = choose_detections(Detections(make_boxes(rows), scores, labels))
    # The second is near the first; the third is near the second, which is not drawn.
    assert chosen.rows.tolist() == [0, 2, 4] and chosen.duplicates == 2


def test_weak_boxes_are_no_duplicates_and_the_limit_counts_distinct_boxes() -> None:
    rows = [[10.0 * (k // 2), 0.0, 0.0, *CAR, 0.0, 0.0, 0.0] for k in range(6)]
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.1])
    detections = Detections(make_boxes(rows), scores, torch.zeros(6, dtype=torch.int64))
    assert choose_detections(detections)[0].tolist() == [0, 2, 4]
    assert choose_detections(detections).duplicates == 2
    assert choose_detections(detections, max_boxes=2).rows.tolist() == [0, 2]
    kept = select_detections(detections, max_boxes=2)
    assert kept.scores.tolist() == scores[[0, 2]].tolist()


def test_predicted_boxes_are_drawn_over_true_ones() -> None:
    label = torch.tensor([1])
    truth = Annotations(make_boxes([[1, 2, 3, 4, 2, 1, 0, 0, 0]]), label, label)
    layers = make_layers(random_detections(3, 0), truth)
    assert [layer.style for layer in layers] == [TRUE, PREDICTED]
    assert TRUE.ground_only and not PREDICTED.ground_only
    assert layers[0].caption(0, NAMES) == "pedestrian"


def test_true_boxes_without_detections_are_drawn_in_their_class_colours() -> None:
    (layer,) = make_layers(None, Annotations.empty())
    assert layer.style.color is None and layer.style.labelled
    assert make_layers(None, None) == ()


def test_caption_holds_class_and_score() -> None:
    layer = layer_of(make_boxes([[1, 2, 3, 4, 2, 1, 0, 0, 0]]))
    assert layer.caption(0, ("traffic_cone",)) == "traffic cone 0.50"


def test_caption_holds_the_track() -> None:
    truth = make_boxes([[1, 2, 3, 4, 2, 1, 0, 0, 0]])
    one = Detections(truth, torch.tensor([0.71]), torch.tensor([0]))
    (layer,) = make_layers(one, None, torch.tensor([12]))
    assert layer.caption(0, ("car",)) == "car #12 0.71"
    with pytest.raises(ValueError, match="identities"):
        make_layers(one, None, torch.tensor([12, 13]))


def test_box_that_is_not_finite_is_named() -> None:
    boxes = make_boxes([[1, 2, 3, 4, 2, 1, 0, 0, 0], [1, float("nan"), 3, 4, 2, 1, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"predicted boxes must be finite; got .* in box 1"):
        layer_of(boxes)
    unknown_velocity = make_boxes([[1, 2, 3, 4, 2, 1, 0, float("nan"), float("nan")]])
    assert len(layer_of(unknown_velocity)) == 1


def test_layer_moves_with_its_frame() -> None:
    layer = layer_of(make_boxes([[1, 2, 3, 4, 2, 1, 0, 0, 0]]))
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, 3] = torch.tensor([10.0, 20.0, 30.0])
    moved = layer.transformed(motion)
    assert isinstance(moved, BoxLayer) and moved.style is layer.style
    assert moved.corners() - layer.corners() == pytest.approx(motion[:3, 3].expand(1, 8, 3).numpy())
