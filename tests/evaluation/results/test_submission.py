from __future__ import annotations

import copy
import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.results.submission import read_submission, write_submission

BOX = {
    "sample_token": "a",
    "translation": [1.5, 2.25, 0.1],
    "size": [1.9, 4.5, 1.6],
    "rotation": [1.0, 0.0, 0.0, 0.0],
    "velocity": [0.5, -0.25],
    "detection_name": "car",
    "detection_score": 0.3970785439014435,
    "attribute_name": "vehicle.moving",
}


def _changed(**fields: object) -> dict:
    return {**copy.deepcopy(BOX), **fields}


def _write(path: Path, *boxes: dict) -> Path:
    path.write_text(json.dumps({"meta": {}, "results": {"a": list(boxes)}}))
    return path


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/results.json"
    results = {"a": [BOX, _changed(translation=[0.1, 0.2, 0.30000000000000004])], "b": []}
    write_submission(path, results)
    content = json.loads(path.read_text())
    assert content["results"] == results
    assert content["meta"] == {
        "use_camera": True,
        "use_lidar": False,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    submission = read_submission(path)
    assert submission.sample_tokens == ("a", "b")
    assert submission.select_sample("a").translation.tolist() == [
        [1.5, 2.25, 0.1],
        [0.1, 0.2, 0.30000000000000004],
    ]
    assert submission.select_sample("a").score[0] == BOX["detection_score"]
    assert submission.select_sample("b").rotation.shape == (0, 4)
    with pytest.raises(
        ValueError, match="must be one of the 2 samples of the results file; got 'c'"
    ):
        submission.select_sample("c")


def test_the_devkit_accepts_the_file(tmp_path: Path) -> None:
    loaders = pytest.importorskip("nuscenes.eval.common.loaders")
    box_class = pytest.importorskip("nuscenes.eval.detection.data_classes").DetectionBox
    write_submission(tmp_path / "r.json", {"a": [BOX], "b": []})
    boxes, meta = loaders.load_prediction(str(tmp_path / "r.json"), 500, box_class)
    assert meta["use_camera"] is True
    assert boxes["a"][0].translation == tuple(BOX["translation"])
    assert boxes.sample_tokens == ["a", "b"]


def test_an_unknown_velocity_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_submission(path, {"a": [_changed(velocity=[math.nan, math.nan])]})
    assert np.isnan(read_submission(path).select_sample("a").velocity).all()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_submission(path, {"a": []})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_submission(path, {"a": [_changed(translation=object())]})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_full_disk_leaves_the_old_file_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    write_submission(path, {"a": []})
    before = path.read_bytes()

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left") as caught:
        write_submission(path, {"b": [BOX]})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"got no file .*none\.json"):
        read_submission(tmp_path / "none.json")


def test_a_cut_off_file_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_submission(path, {"a": [BOX]})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"must be JSON; got .* at byte \d+ of \d+ in .*r\.json"):
        read_submission(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must be an object with 'meta' and 'results'; got a list of 0 in"),
        ("{}", "'meta' and 'results'; got no 'meta' but an empty object"),
        ('{"results": {}}', r"got no 'meta' but the fields \['results'\]"),
        ('{"meta": {}}', r"got no 'results' but the fields \['meta'\]"),
        (
            '{"meta": {}, "results": [{}, {}]}',
            "results of .* must be an object with the list of boxes of each sample token; got a "
            "list of 2: group the boxes by their sample_token",
        ),
        ('{"meta": {}, "results": null}', "results of .* must be an object .*; got None"),
        ('{"meta": 3, "results": {}}', "meta of .* must be an object or null; got 3"),
        (
            '{"format": "bevstack-detections-1", "detections": []}',
            "these are the boxes of one frame of `bevstack predict --rig`",
        ),
        (
            '{"format": "bevstack-frames-detections-1", "frames": []}',
            "these are the boxes of a drive of `bevstack predict --rig --frames`",
        ),
        ('{"meta": {}, "nd_score": 0.1}', "these are the metrics of an evaluation"),
        ("[" * 100_000, "must be JSON; got too many nested lists or objects in"),
        ('{"meta": {}, "results": ' + "[" * 100_000, "got too many nested lists or objects in"),
        ('{"meta": {}, "results": ' + "9" * 5000 + "}", "a whole number of too many digits in"),
        ('{"meta": {}, "results": {"\xff": []}', "must be UTF-8 text; got invalid"),
    ],
)
def test_another_structure_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "r.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_submission(tmp_path / "r.json")


def test_a_file_of_the_tracking_task_is_named(tmp_path: Path) -> None:
    track = {k: v for k, v in BOX.items() if not k.startswith("detection")}
    track |= {"tracking_id": "7", "tracking_name": "car", "tracking_score": 0.5}
    with pytest.raises(ValueError, match=r"'detection_name'.*boxes are of the tracking task; give"):
        read_submission(_write(tmp_path / "r.json", track))


def test_meta_may_be_null(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"meta": null, "results": {"a": []}}')
    assert read_submission(tmp_path / "r.json").meta == {}


@pytest.mark.parametrize("field", list(BOX))
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    box = copy.deepcopy(BOX)
    del box[field]
    with pytest.raises(ValueError, match=f"box 1 of sample 'a' must have the field '{field}'"):
        read_submission(_write(tmp_path / "r.json", BOX, box))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("translation", [1.0, math.nan, 0.0], "translation of box 1 .* must be finite; got .*nan"),
        ("translation", [1.0, 2.0], "translation of box 1 .* must be 3 numbers; got"),
        ("size", [1.0, 0.0, 2.0], "size of box 1 .* must be positive and finite"),
        ("size", "large", "size of box 1 .* must be 3 numbers; got 'large'"),
        ("rotation", [0, 0, 0, 0], "rotation of box 1 .* quaternion of non-zero length; got"),
        ("velocity", [1.0, 2.0, 3.0], "velocity of box 1 .* must be 2 numbers"),
        (
            "detection_score",
            -0.5,
            "detection_score of box 1 .* of at least 0; got -0.5",
        ),
        (
            "detection_score",
            math.inf,
            "detection_score of box 1 .* of at least 0; got inf",
        ),
        ("detection_name", "cars", "got 'cars'; did you mean 'car'"),
        ("detection_name", "vehicle.car", "got 'vehicle.car'; did you mean 'car'"),
        ("detection_name", "vehicle.truck", "got 'vehicle.truck'; did you mean 'truck'"),
        ("detection_name", "submarine", "got 'submarine'$"),
        ("detection_name", 5, "got 5$"),
        ("detection_score", "0.5", "detection_score of box 1 .* must be a number; got '0.5'"),
        ("detection_score", True, "detection_score of box 1 .* must be a number; got True"),
        ("detection_score", [0.5], r"detection_score of box 1 .* must be a number; got \[0.5\]"),
        ("translation", ["1", "2", "3"], r"translation of box 1 .* must be 3 numbers; got \['1'"),
        ("translation", [1.0, True, 2.0], r"translation of box 1 .* be 3 numbers; got \[1.0, True"),
        ("translation", [1.0, 2.0, 10**400], "translation of box 1 .* must be 3 numbers; got"),
        ("translation", {"x": 1, "y": 2, "z": 3}, "translation of box 1 .* must be 3 numbers; got"),
        ("rotation", None, "rotation of box 1 .* must be 4 numbers; got None"),
        ("num_pts", "5", "num_pts of box 1 .* must be a whole number of 64 bits; got '5'"),
        ("num_pts", 0.5, "num_pts of box 1 .* must be a whole number of 64 bits; got 0.5"),
        ("num_pts", False, "num_pts of box 1 .* must be a whole number of 64 bits; got False"),
        ("num_pts", 10**30, "num_pts of box 1 .* must be a whole number of 64 bits; got 1000"),
        ("sample_token", 5, "sample_token of box 1 .* must be a string; got 5"),
        ("attribute_name", "vehicle.parkd", "got 'vehicle.parkd'; did you mean 'vehicle.parked'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_submission(_write(tmp_path / "r.json", BOX, _changed(**{field: value})))


def test_too_many_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 500 boxes; got 501"):
        read_submission(_write(tmp_path / "r.json", *[BOX] * 501))


def test_a_sample_must_hold_a_list(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"meta": {}, "results": {"a": {"x": 1}}}')
    with pytest.raises(ValueError, match="sample 'a' must be a list of at most 500 boxes"):
        read_submission(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("detection_score", "0.5", 0.5), ("detection_score", True, 1.0), ("detection_score", 1, 1.0)],
)
def test_strict_takes_a_score_like_the_devkit(
    tmp_path: Path, field: str, value: object, expected: float
) -> None:
    box_type = pytest.importorskip("nuscenes.eval.detection.data_classes").DetectionBox
    box = _changed(**{field: value})
    assert box_type.deserialize(box).detection_score == expected
    submission = read_submission(_write(tmp_path / "r.json", box), strict=True)
    assert submission.boxes.score.tolist() == [expected]


@pytest.mark.parametrize("value", [2**32, 2**40, -(2**40), 2**64 - 1, "7", 3.9, 0.5, True])
def test_strict_takes_a_number_of_points_like_the_devkit(tmp_path: Path, value: object) -> None:
    box_type = pytest.importorskip("nuscenes.eval.detection.data_classes").DetectionBox
    box = _changed(num_pts=value)
    points = read_submission(_write(tmp_path / "r.json", box), strict=True).boxes.num_points
    # The devkit leaves out boxes of 0 points, and looks at no other number.
    assert (points[0] == 0) == (box_type.deserialize(box).num_pts == 0)
