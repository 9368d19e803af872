"""Detectors and streams with a calibration: equal boxes, and an uncertainty of their own frame."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bevstack
from bevstack.calibration_file import write_calibration
from bevstack.config.tracking import TrackingConfig
from bevstack.geometry import invert_se3
from bevstack.models.build import save_model
from bevstack.runtime.detections_file import read_detections
from bevstack.runtime.detector import Detector, with_config
from bevstack.runtime.frame_detections_file import (
    FrameDetectionsWriter,
    read_frame_detections,
)
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.tracked import TrackedDetector
from bevstack.types.uncertainty import BoxUncertainty
from tests.uncertainty.models import odd_calibration

NAMES = ("state", "elevation_m2", "size_m2", "yaw_rad2", "flip", "existence", "radii")


@pytest.fixture(scope="module")
def calibrated(detector):
    return Detector(detector.model, detector.config, calibration=odd_calibration())


def assert_same_boxes(found, wanted):
    for name in ("center", "size", "yaw", "velocity"):
        assert torch.equal(getattr(found.boxes, name), getattr(wanted.boxes, name))
    assert torch.equal(found.scores, wanted.scores) and torch.equal(found.labels, wanted.labels)


def assert_close(found: BoxUncertainty | None, wanted: BoxUncertainty | None, tolerance=1e-9):
    assert found is not None and wanted is not None and len(found) == len(wanted) > 0
    for name in NAMES:
        ours, theirs = getattr(found, name), getattr(wanted, name)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_a_calibration_changes_no_box_and_gives_each_its_uncertainty(detector, calibrated, frames):
    plain, found = detector.predict(frames[0]), calibrated.predict(frames[0])
    assert_same_boxes(found, plain)
    assert plain.uncertainty is None
    assert_close(found.uncertainty, odd_calibration().calibrated(plain, torch.zeros(2)).uncertainty)
    stream = calibrated.stream()
    assert all(stream.step(frame).uncertainty is not None for frame in frames[:2])


def test_distances_are_those_from_the_vehicle_in_any_frame_of_the_boxes(calibrated, frames):
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, 3] = torch.tensor([0.5, -0.3, 0.2])
    frame = replace(frames[0], bev_from_ego=moved)
    found = calibrated.predict(frame)
    wanted = odd_calibration().calibrated(found, torch.tensor([0.5, -0.3]))
    assert_close(found.uncertainty, wanted.uncertainty)


def test_tracks_have_an_uncertainty_in_the_world_and_boxes_in_the_bev_frame(
    detector, calibrated, frames
):
    plain, stream = TrackedDetector(detector).stream(), TrackedDetector(calibrated).stream()
    for frame in frames[:3]:
        boxes = stream.step(frame)
        assert_same_boxes(boxes, plain.step(frame))
        tracks = stream.tracks
        wanted = odd_calibration().track_uncertainty(
            replace(tracks.detections(), class_names=detector.class_names),
            tracks.covariance,
            seen=tracks.last_seen_us == frame.timestamp_us,
            ego_position=frame.world_from_ego[:2, 3],
        )
        assert_close(tracks.uncertainty, wanted)
        local = wanted.transformed(invert_se3(frame.world_from_bev()))[: len(boxes)]
        assert_close(boxes.uncertainty, local)
    assert plain.tracks.uncertainty is None


def test_other_boxes_and_other_settings_of_tracking_have_none(calibrated, frames):
    other = TrackedDetector(calibrated, TrackingConfig(reach_m=3.0)).stream()
    boxes = other.step(frames[0])
    assert boxes.uncertainty is None and other.tracks.uncertainty is None
    mirrored = MirroredDetector(calibrated)
    assert mirrored.predict(frames[0]).uncertainty is None
    assert TrackedDetector(mirrored).stream().step(frames[0]).uncertainty is None
    assert with_config(calibrated, calibrated.config).predict(frames[0]).uncertainty is None


def test_weights_are_loaded_with_the_calibration_beside_them(detector, frames, tmp_path: Path):
    path = tmp_path / "own.safetensors"
    save_model(path, detector.model, detector.config)
    assert bevstack.load(path).calibration is None
    write_calibration(path, "boxes", odd_calibration().to_entry())
    loaded = bevstack.load(path)
    assert loaded.calibration is not None
    assert loaded.calibration.to_entry() == odd_calibration().to_entry()
    assert loaded.predict(frames[0]).uncertainty is not None
    other = tmp_path / "other.safetensors"
    config = replace(detector.config, name="other")
    save_model(other, detector.model, config)
    (tmp_path / "own.calibration.json").rename(tmp_path / "other.calibration.json")
    with pytest.raises(ValueError, match=r"weights_sha256 of .* must be that of other\.safe"):
        bevstack.load(other)


def test_files_of_boxes_hold_the_uncertainty(calibrated, frames, tmp_path: Path):
    found = calibrated.predict(frames[0])
    found.save(tmp_path / "one.json")
    again, _ = read_detections(tmp_path / "one.json")
    assert_close(again.uncertainty, found.uncertainty)
    buffer = io.BytesIO()
    writer = FrameDetectionsWriter(buffer, class_names=calibrated.class_names)
    writer.add(frames[0], found)
    writer.finish()
    (tmp_path / "many.json").write_bytes(buffer.getvalue())
    read, _ = read_frame_detections(tmp_path / "many.json")
    (first,) = read
    assert_close(first.detections.uncertainty, found.uncertainty)


def test_a_file_in_which_some_boxes_lack_their_uncertainty_is_refused(
    calibrated, frames, tmp_path: Path
):
    found = calibrated.predict(frames[0])[:2]
    content = found.to_dict()
    del content["detections"][1]["uncertainty"]
    (tmp_path / "one.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"box 1 of .* must have the field 'uncertainty'"):
        read_detections(tmp_path / "one.json")
