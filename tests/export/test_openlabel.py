"""OpenLABEL files are validated by their schema and read back by the package ``vcd``."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from bevstack.export.planning.openlabel import write_openlabel
from bevstack.export.planning.scene import PlanningFrame
from tests.export.scenes import (
    NUM_SCENES,
    POSITION_M,
    VELOCITY_MPS,
    YAW_RAD,
    angle_between,
    random_drive,
    random_frame,
    truths,
    yaw_sweep,
)

REASON = "needs vcd: pip install --no-deps vcd==6.0.3"
core = pytest.importorskip("vcd.core", reason=REASON)
schema = pytest.importorskip("vcd.schema", reason=REASON).openlabel_schema


def validate(path: Path) -> None:
    """Check a file against the schema of vcd."""
    jsonschema.Draft7Validator(schema).validate(json.loads(path.read_text()))


def load(path: Path) -> Any:
    """Read a file with vcd."""
    content = json.loads(path.read_text())
    label = core.OpenLABEL()
    label.load_from_json(content)
    return label


def value(label: Any, key: str, name: str, number: int) -> Any:
    """Return a value of an object in a frame; None if it has none of that name."""
    data = label.get_object_data(key, name, number)
    return None if data is None else data["val"]


def expect_equal(frames: list[PlanningFrame], label: Any) -> int:
    """Compare the objects that vcd finds with the frames; return their number."""
    count = 0
    for number, frame in enumerate(frames):
        found = label.get_frame(number)
        seconds, micros = found["frame_properties"]["timestamp"].split(".")
        assert int(seconds) * 1_000_000 + int(micros) == frame.timestamp_us and len(micros) == 6
        transform = found["frame_properties"]["transforms"]["ego_to_world"]
        pose = np.array(transform["transform_src_to_dst"]["matrix4x4"]).reshape(4, 4)
        assert pose == pytest.approx(frame.world_from_ego, abs=1e-12)
        keys = list(map(str, frame.object_ids()))
        assert list(found["objects"]) == [*keys, *(cue.id for cue in frame.cues)]
        for row, (key, truth) in enumerate(zip(keys, truths(frame, world=False), strict=True)):
            assert label.get_object(key)["type"] == frame.objects.class_names[row]
            box = value(label, key, "box", number)
            assert np.abs(np.array(box[:3]) - truth.center).max() < POSITION_M
            qx, qy, qz, qw = box[3:7]
            assert (qx, qy) == (0, 0) and math.hypot(qz, qw) == pytest.approx(1)
            assert angle_between(2 * math.atan2(qz, qw), truth.yaw) < YAW_RAD
            assert box[7:] == pytest.approx(frame.objects.size[row], abs=POSITION_M)
            velocity = value(label, key, "velocity", number)
            if np.isnan(truth.velocity).any():
                assert velocity is None
            else:
                assert np.abs(np.array(velocity) - truth.velocity).max() < VELOCITY_MPS
            assert value(label, key, "score", number) == frame.objects.scores[row]
            if truth.covariance is not None:
                assert value(label, key, "track", number) == frame.objects.identity[row]
                spread = np.array(value(label, key, "position_covariance", number))
                assert spread.reshape(2, 2) == pytest.approx(truth.covariance[:2, :2], abs=1e-6)
            count += 1
    return count


@pytest.mark.parametrize("tracks", [False, True])
def test_vcd_reads_what_was_written(tmp_path: Path, tracks: bool) -> None:
    frames = random_drive(tracks=tracks, seed=3)
    write_openlabel(tmp_path / "drive.json", frames)
    assert expect_equal(frames, load(tmp_path / "drive.json")) > 400


@pytest.mark.parametrize("tracks", [False, True])
@pytest.mark.parametrize(
    "count", [12, pytest.param(NUM_SCENES, marks=pytest.mark.slow)]
)  # the schema takes 40 ms a frame
def test_files_are_valid(tmp_path: Path, tracks: bool, count: int) -> None:
    frames = random_drive(tracks=tracks, seed=5, count=count)
    assert any(cue.kind == kind for kind in ("light", "sign") for f in frames for cue in f.cues)
    write_openlabel(tmp_path / "drive.json", frames)
    validate(tmp_path / "drive.json")
    damaged = (tmp_path / "drive.json").read_text().replace('"frame_end"', '"frame_last"')
    (tmp_path / "damaged.json").write_text(damaged)
    with pytest.raises(jsonschema.ValidationError):
        validate(tmp_path / "damaged.json")


def test_headings_and_ellipses_are_right_in_a_whole_turn(tmp_path: Path) -> None:
    frames = yaw_sweep()
    write_openlabel(tmp_path / "drive.json", frames)
    assert expect_equal(frames, load(tmp_path / "drive.json")) == 360


def test_lights_signs_paths_and_intervals_are_found(tmp_path: Path) -> None:
    frames = random_drive(tracks=True, seed=4, count=30)
    write_openlabel(tmp_path / "drive.json", frames)
    label = load(tmp_path / "drive.json")
    for number, frame in enumerate(frames):
        for cue in frame.cues:
            light = cue.kind == "light"
            assert label.get_object(cue.id)["type"] == (
                "traffic_light" if light else "traffic_sign"
            )
            assert value(label, cue.id, "position", number) == list(cue.position_m)
            text = value(label, cue.id, "state" if light else "meaning", number)
            assert text == (cue.state_name if light else cue.meaning)
            assert value(label, cue.id, "map_id", number) == cue.map_id
            x, y, width, height = value(label, cue.id, "box_CAM_FRONT", number)
            edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            assert edges == pytest.approx(cue.box_px)
        for row, key in enumerate(map(str, frame.object_ids())):
            data = label.get_object_data(key, "predicted_path", number)
            path = np.array(data["val"]).reshape(data["height"], data["width"])
            assert path[:, 0] == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])
            assert path[:, 1:3] == pytest.approx(frame.paths.position[row])
            covariance = frame.paths.covariance[row]
            assert path[:, 4:] == pytest.approx(
                np.stack((covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]), 1)
            )
            intervals = label.get_object(key)["frame_intervals"]
            covered = {
                n for run in intervals for n in range(run["frame_start"], run["frame_end"] + 1)
            }
            same = {n for n, f in enumerate(frames) if key in map(str, f.object_ids())}
            assert covered == same


def test_several_drives_and_wrong_orders_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = random_frame(rng, tracks=True)
    later = dataclasses.replace(frame, timestamp_us=frame.timestamp_us + 1)
    with pytest.raises(ValueError, match=r"one drive; got 'scene-0061' and 'another'"):
        write_openlabel(tmp_path / "d.json", [frame, dataclasses.replace(later, drive="another")])
    with pytest.raises(ValueError, match="in order of time"):
        write_openlabel(tmp_path / "d.json", [later, frame])
