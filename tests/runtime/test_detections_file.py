"""Reading of the JSON file of one frame's boxes; errors name the mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bevstack.runtime.detections_file import read_detections


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "class": "car",
        "score": 0.25,
        "center_m": [12.0, -3.0, 0.8],
        "size_m": [4.5, 1.9, 1.6],
        "yaw_rad": 0.3,
        "velocity_mps": [5.0, -1.0],
    } | changes


def write(path: Path, *entries: Any, **changes: Any) -> Path:
    content = {"format": "bevstack-detections-1", "frame": "ego", "detections": list(entries)}
    path.write_text(json.dumps(content | changes))
    return path


def test_boxes_are_read_best_first_with_their_class_names(tmp_path: Path) -> None:
    best = {"score": 0.75, "class": "tram", "center_m": [1, 2, 3]}
    path = write(tmp_path / "a.json", entry(), entry(**best))
    detections, names = read_detections(path)
    assert names == ("car", "tram")
    assert detections.scores.tolist() == [0.75, 0.25] and detections.labels.tolist() == [1, 0]
    assert detections.boxes.center[0].tolist() == [1, 2, 3]
    torch.testing.assert_close(detections.boxes.size[1], torch.tensor([4.5, 1.9, 1.6]))
    assert detections.boxes.velocity[1].tolist() == [5.0, -1.0]


def test_a_file_without_boxes_is_read(tmp_path: Path) -> None:
    detections, names = read_detections(write(tmp_path / "a.json"))
    assert len(detections) == 0 and names == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": "other"}, "format of .* must be 'bevstack-detections-1'; got 'other'"),
        ({"detections": None}, "detections of .* must be a list; got NoneType"),
        ({"detections": [3]}, "box 0 of .* must have a 'class' that is a string"),
        ({"detections": [entry(), entry(size_m=[1, 2])]}, "size_m of box 1 .* must be 3 numbers"),
        ({"detections": [entry(score="high")]}, "score of box 0 .* must be a number; got 'high'"),
        ({"detections": [{"class": "car"}]}, "score of box 0 .* must be a number; got None"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_detections(write(tmp_path / "a.json", **content))


def test_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"results file must exist; got no file .*b\.json"):
        read_detections(tmp_path / "b.json")
    (tmp_path / "b.json").write_text('{"format": ')
    with pytest.raises(ValueError, match=r"results file must be JSON; .*b\.json"):
        read_detections(tmp_path / "b.json")
