"""Detections print on one line and are saved as plain numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from bevstack.runtime.detections_file import read_detections
from bevstack.types import Boxes3D, Detections

BOXES = Boxes3D(
    torch.tensor([[1.0, 2.0, 0.5], [3.0, 4.0, 1.0], [5.0, 6.0, 0.0]]),
    torch.tensor([[4.0, 2.0, 1.5], [0.5, 0.6, 1.7], [4.5, 2.0, 1.5]]),
    torch.tensor([0.25, -0.5, 3.0]),
    torch.tensor([[1.0, 0.0], [math.nan, math.nan], [0.0, -2.0]]),
)
DETECTIONS = Detections(
    BOXES, torch.tensor([0.75, 0.5, 0.125]), torch.tensor([1, 0, 1]), ("pedestrian", "car")
)


def test_detections_print_their_number_classes_and_scores_on_one_line() -> None:
    assert repr(DETECTIONS) == "Detections(3 boxes: 2 car, 1 pedestrian; scores 0.75 to 0.12)"
    assert repr(DETECTIONS[:1]) == "Detections(1 box: 1 car; scores 0.75 to 0.75)"
    assert repr(DETECTIONS[:0]) == "Detections(0 boxes)"
    unnamed = Detections(BOXES, DETECTIONS.scores, DETECTIONS.labels)
    assert repr(unnamed) == "Detections(3 boxes: 2 label 1, 1 label 0; scores 0.75 to 0.12)"


def test_class_names_stay_with_a_part_and_in_another_frame() -> None:
    turned = DETECTIONS[torch.tensor([2, 0])].transformed(torch.eye(4)).to("cpu")
    assert turned.class_names == ("pedestrian", "car")
    assert turned.scores.tolist() == [0.125, 0.75]


def test_plain_values_hold_every_box() -> None:
    content = DETECTIONS.to_dict(timestamp_us=7)
    assert content["timestamp_us"] == 7 and content["frame"] == "ego"
    first, second, third = content["detections"]
    assert first == {
        "class": "car",
        "score": 0.75,
        "center_m": [1.0, 2.0, 0.5],
        "size_m": [4.0, 2.0, 1.5],
        "yaw_rad": 0.25,
        "velocity_mps": [1.0, 0.0],
    }
    assert second["class"] == "pedestrian" and second["velocity_mps"] == [None, None]
    assert third["score"] == 0.125
    assert json.loads(json.dumps(content)) == content


def test_saved_detections_are_read_again(tmp_path: Path) -> None:
    DETECTIONS.save(tmp_path / "boxes.json")
    read, names = read_detections(tmp_path / "boxes.json")
    assert names == read.class_names and read.to_dict() == DETECTIONS.to_dict()
    DETECTIONS[:0].save(str(tmp_path / "none.json"))
    assert len(read_detections(tmp_path / "none.json")[0]) == 0
    broken = Detections(BOXES, torch.tensor([math.inf, 0.0, 0.0]), DETECTIONS.labels)
    with pytest.raises(ValueError, match=r"boxes of .*broken\.json must be finite"):
        broken.save(tmp_path / "broken.json")
    assert not (tmp_path / "broken.json").exists()
