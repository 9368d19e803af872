"""nuScenes results are read back by nuscenes-devkit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.results.submission import read_submission
from bevstack.export.planning.nuscenes import UNTRACKED_CLASSES, write_nuscenes
from bevstack.export.planning.scene import PlanningFrame
from tests.export.scenes import (
    POSITION_M,
    VELOCITY_MPS,
    YAW_RAD,
    angle_between,
    random_drive,
    random_frame,
    truths,
    yaw_sweep,
)

loaders = pytest.importorskip("nuscenes.eval.common.loaders", reason="needs nuscenes-devkit")
DetectionBox = pytest.importorskip("nuscenes.eval.detection.data_classes").DetectionBox
TrackingBox = pytest.importorskip("nuscenes.eval.tracking.data_classes").TrackingBox
Quaternion = pytest.importorskip("pyquaternion").Quaternion
quaternion_yaw = pytest.importorskip("nuscenes.eval.common.utils").quaternion_yaw
# The devkit knows the classes of tracking only after its configuration is made.
pytest.importorskip("nuscenes.eval.common.config").config_factory("tracking_nips_2019")


def expect_equal(frames: list[PlanningFrame], path: Path, *, tracks: bool) -> int:
    """Compare the boxes that the devkit reads with the frames; return their number."""
    kind = TrackingBox if tracks else DetectionBox
    boxes, meta = loaders.load_prediction(str(path), 500, kind)
    assert meta["use_camera"] is True
    assert boxes.sample_tokens == [frame.sample_token for frame in frames]
    count = 0
    for frame in frames:
        found = iter(boxes[frame.sample_token])
        for row, truth in enumerate(truths(frame, world=True)):
            name = frame.objects.class_names[row]
            if tracks and name in UNTRACKED_CLASSES:
                continue
            box = next(found)
            yaw = quaternion_yaw(Quaternion(box.rotation))
            assert np.abs(np.array(box.translation) - truth.center).max() < POSITION_M
            assert angle_between(yaw, truth.yaw) < YAW_RAD
            velocity = np.nan_to_num(truth.velocity, nan=0.0)
            assert np.abs(np.array(box.velocity) - velocity).max() < VELOCITY_MPS
            length, width, height = frame.objects.size[row]
            assert box.size == pytest.approx((width, length, height), abs=POSITION_M)
            if tracks:
                assert box.tracking_id == str(frame.objects.identity[row])
                assert (box.tracking_name, box.tracking_score) == (name, frame.objects.scores[row])
            else:
                assert (box.detection_name, box.detection_score) == (
                    name,
                    frame.objects.scores[row],
                )
            count += 1
        assert next(found, None) is None
    return count


@pytest.mark.parametrize("tracks", [False, True])
def test_the_devkit_reads_what_was_written(tmp_path: Path, tracks: bool) -> None:
    frames = random_drive(tracks=tracks, seed=1)
    write_nuscenes(tmp_path / "r.json", frames)
    assert expect_equal(frames, tmp_path / "r.json", tracks=tracks) > 400


def test_headings_are_right_in_a_whole_turn(tmp_path: Path) -> None:
    frames = yaw_sweep()
    write_nuscenes(tmp_path / "r.json", frames)
    assert expect_equal(frames, tmp_path / "r.json", tracks=True) == 360


def test_our_reader_accepts_the_file_and_the_extension_holds_the_rest(tmp_path: Path) -> None:
    frames = random_drive(tracks=False, seed=2, count=20)
    write_nuscenes(tmp_path / "r.json", frames)
    submission = read_submission(tmp_path / "r.json")
    assert len(submission.boxes) == sum(len(frame.objects) for frame in frames)
    extension = json.loads((tmp_path / "r.json").read_text())["bevstack"]
    for frame in frames:
        entry = extension[frame.sample_token]
        assert [cue["id"] for cue in entry["cues"]] == [cue.id for cue in frame.cues]
        assert np.array(entry["sectors"]["trust"]) == pytest.approx(frame.sectors.trust)
        unknown = [values["velocity_mps"] is None for values in entry["objects"]]
        assert unknown == np.isnan(frame.objects.velocity).any(1).tolist()


def test_frames_that_the_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    frame = random_frame(np.random.default_rng(0), tracks=False)
    path = tmp_path / "r.json"
    with pytest.raises(ValueError, match=r"sample_token .* got none"):
        write_nuscenes(path, [dataclasses.replace(frame, sample_token="")])
    with pytest.raises(ValueError, match="that of another frame"):
        write_nuscenes(path, [frame, frame])
    many = random_frame(np.random.default_rng(0), tracks=False, count=501)
    with pytest.raises(ValueError, match="at most 500 boxes; got 501"):
        write_nuscenes(path, [many])
    assert not path.exists()
