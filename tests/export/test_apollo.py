"""Apollo's texts are read back by protobuf, with classes made of the published field numbers."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.export.planning.apollo import lights, write_apollo
from bevstack.export.planning.scene import PlanningFrame
from bevstack.types.cues import LampBelief
from bevstack.types.traffic import Lamp
from tests.export.apollo_messages import message_classes
from tests.export.scenes import (
    POSITION_M,
    VELOCITY_MPS,
    YAW_RAD,
    angle_between,
    random_cue,
    random_drive,
    truths,
    yaw_sweep,
)

text_format = pytest.importorskip("google.protobuf.text_format", reason="needs protobuf")
KINDS = {"obstacles": "PerceptionObstacles", "lights": "TrafficLightDetection"}
KINDS["prediction"] = "PredictionObstacles"
CLASSES = {  # of the published table: type and sub-type
    "car": (5, 3),
    "truck": (5, 5),
    "bus": (5, 6),
    "trailer": (5, 5),
    "construction_vehicle": (5, 5),
    "motorcycle": (4, 8),
    "bicycle": (4, 7),
    "pedestrian": (3, 10),
    "traffic_cone": (2, 11),
    "barrier": (2, 2),
}


@pytest.fixture(scope="module")
def classes() -> dict[str, Any]:
    return message_classes()


def read(folder: Path, kind: str, number: int, classes: dict[str, Any]) -> Any | None:
    """Return a message of a frame; None if it has no such file."""
    path = folder / f"{kind}_{number:06d}.pb.txt"
    if not path.exists():
        return None
    return text_format.Parse(path.read_text("utf-8"), classes[KINDS[kind]]())


def xyz(point: Any) -> np.ndarray:
    return np.array((point.x, point.y, point.z))


def expect_obstacle(found: Any, frame: PlanningFrame, row: int, truth: Any) -> None:
    length, width, height = frame.objects.size[row]
    assert (found.length, found.width, found.height) == pytest.approx((length, width, height))
    ground = truth.center - (0, 0, height / 2)
    assert np.abs(xyz(found.position) - ground).max() < POSITION_M
    assert angle_between(found.theta, truth.yaw) < YAW_RAD
    assert found.HasField("velocity") is not np.isnan(truth.velocity).any()
    if found.HasField("velocity"):
        assert np.abs(xyz(found.velocity)[:2] - truth.velocity).max() < VELOCITY_MPS
    assert (found.type, found.sub_type) == CLASSES[frame.objects.class_names[row]]
    assert found.confidence == frame.objects.scores[row]
    corners = np.array([xyz(point) for point in found.polygon_point])
    assert corners.mean(0) == pytest.approx(ground, abs=POSITION_M)
    sides = np.diff(corners[:, :2], axis=0, append=corners[:1, :2])
    assert np.hypot(*sides.T) == pytest.approx((length, width, length, width))
    first, second = sides[:2]
    assert first[0] * second[1] - first[1] * second[0] > 0  # counter-clockwise
    for field, block in (("position", slice(0, 2)), ("velocity", slice(2, 4))):
        values = np.array(getattr(found, f"{field}_covariance"))
        if truth.covariance is None:
            assert not len(values)
        else:
            expected = np.zeros((3, 3))
            expected[:2, :2] = truth.covariance[block, block]
            assert values.reshape(3, 3) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("drive", ["detections", "tracks", "sweep"])
def test_protobuf_reads_what_was_written(
    tmp_path: Path, classes: dict[str, Any], drive: str
) -> None:
    frames = yaw_sweep() if drive == "sweep" else random_drive(tracks=drive == "tracks", seed=16)
    folder = tmp_path / "drive"
    count = write_apollo(folder, frames)
    assert len(list(folder.iterdir())) == count + 1  # and extension.json
    used: set[int] = set()
    total = 0
    for number, frame in enumerate(frames):
        message = read(folder, "obstacles", number, classes)
        assert round(message.header.timestamp_sec * 1e6) == frame.timestamp_us
        assert message.header.camera_timestamp == 1000 * frame.timestamp_us
        assert message.header.sequence_num == number + 1
        ids = [found.id for found in message.perception_obstacle]
        if frame.objects.identity is None:
            assert not used & set(ids) and len(set(ids)) == len(ids)
            used |= set(ids)
        else:
            assert ids == frame.objects.identity.tolist()
        pairs = zip(message.perception_obstacle, truths(frame, world=True), strict=True)
        for row, (found, truth) in enumerate(pairs):
            expect_obstacle(found, frame, row, truth)
            total += 1
    assert total >= 360
    entries = json.loads((folder / "extension.json").read_text())["frames"]
    assert [len(entry["cues"]) for entry in entries] == [len(frame.cues) for frame in frames]


def test_paths_are_trajectories_in_the_world(tmp_path: Path, classes: dict[str, Any]) -> None:
    frames = random_drive(tracks=True, seed=17, count=20)
    write_apollo(tmp_path / "drive", frames)
    for number, frame in enumerate(frames):
        message = read(tmp_path / "drive", "prediction", number, classes)
        pose = frame.world_from_ego
        for row, found in enumerate(message.prediction_obstacle):
            assert found.perception_obstacle.id == frame.objects.identity[row]
            assert found.predicted_period == 3
            (trajectory,) = found.trajectory
            for moment, point in enumerate(trajectory.trajectory_point):
                assert point.relative_time == 0.5 * (moment + 1)
                x, y = frame.paths.position[row, moment]
                place = pose @ (x, y, frame.objects.center[row, 2], 1.0)
                place[2] -= frame.objects.size[row, 2] / 2
                assert xyz(point.path_point) == pytest.approx(place[:3], abs=POSITION_M)
                yaw = frame.paths.yaw[row, moment]
                ahead = pose[:2, :2] @ (math.cos(yaw), math.sin(yaw))
                assert angle_between(point.path_point.theta, math.atan2(*ahead[::-1])) < YAW_RAD
                info = point.gaussian_info
                off = info.correlation * info.sigma_x * info.sigma_y
                spread = np.array(((info.sigma_x**2, off), (off, info.sigma_y**2)))
                block = frame.paths.covariance[row, moment, :2, :2]
                assert spread == pytest.approx(pose[:2, :2] @ block @ pose[:2, :2].T)


@pytest.mark.parametrize(
    ("lamps", "name", "color", "blinks"),
    [
        ((("green", "on"), ("red", "on")), "red", "RED", False),
        ((("yellow", "flashing"),), "flashing_yellow", "YELLOW", True),
        ((("white", "on"),), "white", "UNKNOWN", False),
        ((), "off", "BLACK", False),
        ((), "unknown", "UNKNOWN", False),
    ],
)
def test_a_light_has_the_color_that_forbids_most(
    tmp_path: Path, classes: dict[str, Any], lamps: Any, name: str, color: str, blinks: bool
) -> None:
    (frame,) = random_drive(tracks=False, seed=18, count=1)
    cue = random_cue(np.random.default_rng(0), "light", frame.timestamp_us)
    state = tuple(LampBelief(Lamp(c, "circle", status), 0.6) for c, status in lamps)
    cue = dataclasses.replace(cue, state=state, state_name=name, map_id='signal "7"')
    other = dataclasses.replace(cue, map_id=None)
    frame = dataclasses.replace(frame, cues=(other, cue))
    write_apollo(tmp_path / "drive", [frame])
    message = read(tmp_path / "drive", "lights", 0, classes)
    (light,) = message.traffic_light
    assert message.contain_lights and light.id == 'signal "7"' and light.blink is blinks
    assert classes["TrafficLight"].LightColor.Name(light.color) == color
    assert lights(dataclasses.replace(frame, cues=(other,)), 1) is None


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    frames = random_drive(tracks=True, seed=20, count=3)
    write_apollo(tmp_path / "drive", frames)
    write_apollo(tmp_path / "drive", frames[:1])
    write_apollo(tmp_path / "new", frames[:1])
    written = {
        name: {file.name: file.read_text() for file in (tmp_path / name).iterdir()}
        for name in ("drive", "new")
    }
    assert written["drive"] == written["new"] and len(written["new"]) < 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive", "new"]


def test_wrong_input_is_one_sentence(tmp_path: Path) -> None:
    (frame,) = random_drive(tracks=True, seed=19, count=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"got {tmp_path}, which holds 'file'"):
        write_apollo(tmp_path, [frame])
    assert (tmp_path / "file").exists()
    large = np.arange(len(frame.objects)) + (1 << 31)
    assert len(large)
    objects = dataclasses.replace(frame.objects, identity=large)
    with pytest.raises(ValueError, match="at most 2147483647; got"):
        write_apollo(tmp_path / "drive", [dataclasses.replace(frame, objects=objects)])
    assert not (tmp_path / "drive").exists()
