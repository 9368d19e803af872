"""Reading and writing of files of tracks: every malformed field is named with sample and box."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bevstack.evaluation.results.submission import read_submission
from bevstack.evaluation.tracking.track_entries import track_entries
from bevstack.evaluation.tracking.track_file import parse_tracks, read_tracks, write_tracks
from bevstack.tracking import Tracks


def box(**changes: object) -> dict[str, Any]:
    return {
        "sample_token": "s",
        "translation": [1.0, 2.0, 3.0],
        "size": [2.0, 4.5, 1.5],
        "rotation": [1.0, 0.0, 0.0, 0.0],
        "velocity": [0.5, -0.5],
        "tracking_id": "7",
        "tracking_name": "car",
        "tracking_score": 0.5,
        **changes,
    }


def test_boxes_and_identities_become_columns() -> None:
    second = box(sample_token="t", tracking_name="pedestrian", tracking_id="8", num_pts=0)
    submission = parse_tracks({"s": [box()], "t": [second, box(sample_token="t")], "u": []})
    assert submission.boxes.sample_tokens.tolist() == ["s", "t", "u"]
    assert submission.boxes.sample.tolist() == [0, 1, 1]
    assert [submission.identities[k] for k in submission.identity] == ["7", "8", "7"]
    assert submission.boxes.num_points.tolist() == [-1, 0, -1]
    assert submission.boxes.translation[0].tolist() == [1, 2, 3]


def test_absent_score_is_that_of_the_format() -> None:
    plain = box()
    del plain["tracking_score"]
    assert parse_tracks({"s": [plain]}).boxes.score.tolist() == [-1]


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("sample_token", 3, "sample_token of box 1 of sample 's' must be a string"),
        ("sample_token", "x", "sample_token of box 1 of sample 's' must be the sample"),
        ("translation", [1, 2], "translation of box 1 of sample 's' must be 3 numbers"),
        ("translation", [1, 2, math.inf], "translation of box 1 of sample 's' must be finite"),
        ("size", [1, 2, 0], "size of box 1 of sample 's' must be positive"),
        ("size", [1, 2, True], "size of box 1 of sample 's' must be 3 numbers"),
        ("rotation", [0, 0, 0, 0], "rotation of box 1 of sample 's' must be a finite quaternion"),
        ("velocity", [0, None], "velocity of box 1 of sample 's' must be 2 numbers"),
        ("tracking_id", 7, "tracking_id of box 1 of sample 's' must be a text of 1 to 1024"),
        ("tracking_id", "", "tracking_id of box 1 of sample 's' must be a text of 1 to 1024"),
        ("tracking_id", "7", "tracking_id of box 1 of sample 's' must differ"),
        ("tracking_name", "cars", "tracking_name of box 1 of sample 's' must be one of .* 'car'"),
        ("tracking_name", "barrier", "tracking_name of box 1 of sample 's' must be one of"),
        ("tracking_name", None, "tracking_name of box 1 of sample 's' must be one of"),
        ("tracking_score", math.nan, "tracking_score of box 1 of sample 's' must be a finite"),
        ("tracking_score", "0.5", "tracking_score of box 1 of sample 's' must be a number"),
        ("tracking_score", None, "tracking_score of box 1 of sample 's' must be a number"),
        ("num_pts", 0.5, "num_pts of box 1 of sample 's' must be a whole number"),
    ],
)
def test_malformed_field_is_named_with_sample_and_box(
    field: str, value: object, wanted: str
) -> None:
    with pytest.raises(ValueError, match=wanted):
        parse_tracks({"s": [box(), box(**{"tracking_id": "8", field: value})]})


@pytest.mark.parametrize(
    "field",
    ["sample_token", "translation", "size", "rotation", "velocity", "tracking_id", "tracking_name"],
)
def test_absent_field_is_named_with_sample_and_box(field: str) -> None:
    broken = box(tracking_id="8")
    del broken[field]
    with pytest.raises(ValueError, match=f"box 1 of sample 's' must have the field '{field}'"):
        parse_tracks({"s": [box(), broken]})


def test_more_than_500_boxes_are_refused() -> None:
    boxes = [box(tracking_id=str(number)) for number in range(501)]
    with pytest.raises(ValueError, match="results of sample 's' must be a list of at most 500"):
        parse_tracks({"s": boxes})


def test_strict_reading_accepts_what_the_devkit_loads() -> None:
    odd = [box(), box(size=[0, 1, 1], tracking_score="0.5")]
    assert parse_tracks({"s": odd}, strict=True).boxes.score.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="tracking_score of box 0 of sample 's' must be numbers"):
        parse_tracks({"s": [box(tracking_score=math.nan)]}, strict=True)


def test_files_of_the_other_task_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    write_tracks(path, {"s": [box()]})
    with pytest.raises(ValueError, match="these boxes are of the tracking task"):
        read_submission(path)
    detection = {key: value for key, value in box().items() if not key.startswith("tracking")}
    detection |= {"detection_name": "car", "detection_score": 0.5, "attribute_name": ""}
    path.write_text(json.dumps({"meta": {}, "results": {"s": [detection]}}))
    with pytest.raises(ValueError, match="these boxes are of the detection task, without ident"):
        read_tracks(path)


def test_sample_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    path.write_text('{"meta": {}, "results": {"s": [], "s": []}}')
    with pytest.raises(ValueError, match="twice"):
        read_tracks(path)


def test_written_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    write_tracks(path, {"s": [box()], "t": []})
    submission = read_tracks(path)
    assert submission.meta["use_camera"] is True
    assert submission.boxes.score.tolist() == [0.5]
    with pytest.raises(ValueError, match="must be JSON; got the name"):
        write_tracks(tmp_path / "tracks.safetensors", {})
    with pytest.raises(ValueError, match="columns of boxes"):
        read_tracks(tmp_path / "tracks.safetensors")
    with pytest.raises(ValueError, match="must differ"):
        write_tracks(path, {"s": [box(), box()]})


def tracks() -> Tracks:
    count = 3
    return Tracks(
        identity=torch.tensor([4, 2, 9]),
        state=torch.tensor([[1.0, 2.0, 3.0, 4.0]] * count, dtype=torch.float64),
        covariance=torch.eye(4, dtype=torch.float64).repeat(count, 1, 1),
        elevation_m=torch.full((count,), 0.5, dtype=torch.float64),
        size=torch.tensor([[4.0, 2.0, 1.5]] * count, dtype=torch.float64),
        yaw=torch.tensor([0.0, math.pi / 2, 0.0], dtype=torch.float64),
        scores=torch.tensor([0.9, 0.8, 0.7], dtype=torch.float64),
        labels=torch.tensor([0, 0, 1]),
        last_seen_us=torch.tensor([1000, 500, 1000]),
    )


def test_tracks_become_boxes_of_the_format() -> None:
    entries = track_entries(tracks(), "s", 1000, ("car", "barrier"), coasted=True, prefix="1.")
    assert [entry["tracking_id"] for entry in entries] == ["1.4", "1.2"]  # no barrier
    first, second = entries
    assert first["translation"] == [1.0, 2.0, 0.5]
    assert first["size"] == [2.0, 4.0, 1.5]  # width, length, height
    assert first["velocity"] == [3.0, 4.0]
    assert second["rotation"] == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    np.testing.assert_array_equal([e["tracking_score"] for e in entries], [0.9, 0.8])
    parse_tracks({"s": entries})


def test_coasted_tracks_are_left_out_by_default() -> None:
    entries = track_entries(tracks(), "s", 1000, ("car", "barrier"))
    assert [entry["tracking_id"] for entry in entries] == ["4"]


def test_devkit_loads_a_written_file(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes")
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.loaders import load_prediction
    from nuscenes.eval.tracking.data_classes import TrackingBox

    config_factory("tracking_nips_2019")  # sets the names that TrackingBox accepts
    path = tmp_path / "tracks.json"
    write_tracks(path, {"s": track_entries(tracks(), "s", 1000, ("car", "bus"))})
    boxes, meta = load_prediction(str(path), 500, TrackingBox, verbose=False)
    assert meta["use_camera"] and [b.tracking_id for b in boxes["s"]] == ["4", "9"]
    assert boxes["s"][1].tracking_name == "bus"
