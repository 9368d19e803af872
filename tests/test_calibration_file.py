"""Files of calibrations beside weights: sections, digests and checks."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from bevstack.calibration_file import calibration_path, read_calibration, write_calibration
from bevstack.uncertainty.calibration import read_box_calibration
from bevstack.vocabulary import DETECTION_CLASSES
from tests.uncertainty.models import odd_calibration


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.v2.safetensors"
    path.write_bytes(b"weights")
    return path


def test_the_file_stands_beside_the_weights_with_their_digest(weights: Path) -> None:
    assert read_calibration(weights, "boxes") is None
    path = write_calibration(weights, "boxes", {"a": 1.5})
    assert path == calibration_path(weights) == weights.with_name("net.v2.calibration.json")
    content = json.loads(path.read_text())
    assert content["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert read_calibration(weights, "boxes") == {"a": 1.5}
    assert read_calibration(weights, "sectors") is None


def test_sections_of_the_same_weights_stay_and_those_of_other_weights_go(weights: Path) -> None:
    write_calibration(weights, "sectors", {"s": 1})
    write_calibration(weights, "boxes", {"b": 1})
    assert read_calibration(weights, "sectors") == {"s": 1}
    weights.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"weights_sha256 of .* of other weights: fit it again"):
        read_calibration(weights, "sectors")
    write_calibration(weights, "boxes", {"b": 2})
    assert read_calibration(weights, "boxes") == {"b": 2}
    assert read_calibration(weights, "sectors") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "file of calibrations"),
        ("[]", "must be a JSON object"),
        ('{"format": "x"}', "format of .* must be 'bevstack-calibration-1'; got 'x'"),
        ('{"format": "bevstack-calibration-1"}', "must have the field 'weights_sha256'"),
        (
            '{"format": "bevstack-calibration-1", "weights_sha256": "a", "boxs": {}}',
            "must hold the sections boxes, sectors; got 'boxs'",
        ),
    ],
)
def test_a_malformed_file_is_refused(weights: Path, text: str, message: str) -> None:
    calibration_path(weights).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_calibration(weights, "boxes")


def test_values_that_are_not_finite_and_unknown_sections_are_not_written(weights: Path) -> None:
    with pytest.raises(ValueError, match=r"boxes of .* must hold finite numbers"):
        write_calibration(weights, "boxes", {"a": math.nan})
    with pytest.raises(ValueError, match="section must be one of boxes, sectors; got 'tables'"):
        write_calibration(weights, "tables", {})
    assert not calibration_path(weights).exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("groups", [["car"]], "must hold every class; got none with 'barrier'"),
        ("features", ["x"], "features of boxes of .* must be log_distance"),
        ("tracking", {"x": 1}, "tracking of boxes of .* must hold acceleration_mps2"),
        ("detections", {}, "detections of boxes of .* must have the field 'spreads'"),
        ("tracks", None, "tracks of boxes of .* must be a JSON object; got None"),
    ],
)
def test_a_malformed_calibration_of_boxes_is_refused(
    weights: Path, field: str, value: object, message: str
) -> None:
    entry = odd_calibration().to_entry()
    write_calibration(weights, "boxes", entry)
    assert read_box_calibration(weights, DETECTION_CLASSES) is not None
    changed = entry | {field: value}
    if field == "groups":  # as many groups as before, with fewer classes
        changed["groups"] = [["car"], [], [], [], []]
    write_calibration(weights, "boxes", changed)
    with pytest.raises(ValueError, match=message):
        read_box_calibration(weights, DETECTION_CLASSES)
