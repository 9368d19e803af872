"""Reading of the JSON file of one frame's boxes; errors name the mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bevstack.runtime.detections_file import read_detections, write_detections
from bevstack.types import Boxes3D, Detections


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
        ({"format": ["x"]}, r"format of .* must be 'bevstack-detections-1'; got \['x'\]"),
        ({"frame": "world"}, "frame of .* must be 'ego'; got 'world': transform the boxes"),
        ({"frame": None}, "frame of .* must be 'ego'; got None"),
        ({"timestamp_us": "12"}, "timestamp_us of .* must be a whole number; got '12'"),
        ({"timestamp_us": 1.5}, "timestamp_us of .* must be a whole number; got 1.5"),
        ({"detections": None}, "detections of .* must be a list; got None"),
        ({"detections": {}}, r"detections of .* must be a list; got \{\}"),
        ({"detections": [3]}, "box 0 of .* must be a JSON object; got 3"),
        ({"detections": [{}]}, "box 0 of .* must have the field 'class'"),
        ({"detections": [entry(), {"class": 5}]}, "class of box 1 of .* must be a text; got 5"),
        ({"detections": [entry(score=-1)]}, "box 0 of .*: score.* must be from 0 to 1; got -1"),
        ({"detections": [entry(score=1.5)]}, "box 0 of .*: score.* must be from 0 to 1; got 1.5"),
        ({"detections": [entry(score=True)]}, "box 0 of .*: score.* must be a number; got True"),
        ({"detections": [entry(score="0.5")]}, "box 0 of .*: score.* must be a number; got '0.5'"),
        (
            {"detections": [entry(score=float("nan"))]},
            "box 0 of .*: score.* must be finite; got nan",
        ),
        (
            {"detections": [entry(score=[0.5])]},
            r"box 0 of .*: score.* must be a number; got \[0.5\]",
        ),
        ({"detections": [entry(size_m=[1, 0, 2])]}, "box 0 of .*: size_m.* must be positive; got"),
        ({"detections": [entry(size_m=[1, -1, 2])]}, "box 0 of .*: size_m.* must be positive; got"),
        (
            {"detections": [entry(yaw_rad=None)]},
            "box 0 of .*: yaw_rad.* must be a number; got None",
        ),
        (
            {"detections": [entry(center_m=[0, float("inf"), 0])]},
            r"box 0 of .*: center_m.*\[1\] must be finite; got inf",
        ),
        ({"detections": [entry(center_m=[0, 1e30, 0])]}, "box 0 of .*: center_m.* be at most 1e"),
        (
            {"detections": [entry(center_m=["0", 1, 2])]},
            r"box 0 of .*: center_m.*\[0\] must be a num",
        ),
        (
            {"detections": [entry(velocity_mps=[None, 1])]},
            r"box 0 of .*: velocity_mps.*\[0\] must be",
        ),
        (
            {"detections": [entry(), entry(size_m=[1, 2])]},
            "box 1 of .*: size_m.* must be 3 numbers",
        ),
        (
            {"detections": [entry(score="high")]},
            "box 0 of .*: score.* must be a number; got 'high'",
        ),
        ({"detections": [{"class": "car"}]}, "box 0 of .* must have the field 'score'"),
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


def test_an_unknown_velocity_is_written_and_read(tmp_path: Path) -> None:
    boxes = Boxes3D(
        torch.zeros(1, 3), torch.ones(1, 3), torch.zeros(1), torch.full((1, 2), float("nan"))
    )
    detections = Detections(boxes, torch.tensor([0.5]), torch.tensor([0]))
    write_detections(tmp_path / "a.json", detections, ["car"], None)
    assert json.loads((tmp_path / "a.json").read_text())["detections"][0]["velocity_mps"] == [
        None,
        None,
    ]
    assert read_detections(tmp_path / "a.json")[0].boxes.velocity.isnan().all()
    broken = Detections(boxes, torch.tensor([float("nan")]), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"boxes of .*b\.json must be finite"):
        write_detections(tmp_path / "b.json", broken, ["car"], None)
    assert not (tmp_path / "b.json").exists()
