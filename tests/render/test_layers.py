"""Selection and order of the boxes that are drawn."""

from __future__ import annotations

import pytest
import torch

from bevstack.render import PREDICTED, TRUE, BoxLayer, make_layers, select_detections
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


def test_predicted_boxes_are_drawn_over_true_ones() -> None:
    label = torch.tensor([1])
    truth = Annotations(make_boxes([[1, 2, 3, 4, 2, 1, 0, 0, 0]]), label, label)
    layers = make_layers(random_detections(3, 0), truth)
    assert [layer.style for layer in layers] == [TRUE, PREDICTED]
    assert TRUE.dashed and not PREDICTED.dashed
    assert layers[0].caption(0, NAMES) == "pedestrian"


def test_true_boxes_without_detections_are_drawn_in_their_class_colours() -> None:
    (layer,) = make_layers(None, Annotations.empty())
    assert layer.style.color is None and layer.style.labelled
    assert make_layers(None, None) == ()


def test_caption_holds_class_and_score() -> None:
    layer = layer_of(make_boxes([[1, 2, 3, 4, 2, 1, 0, 0, 0]]))
    assert layer.caption(0, ("traffic_cone",)) == "traffic cone 0.50"


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
