"""Bags with Autoware's messages are read back by mcap-ros2-support."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.store import MessageStore, open_store
from bevstack.export.planning.autoware import AutowareOptions, write_autoware
from bevstack.export.planning.scene import PlanningFrame
from bevstack.types.cues import LampBelief
from bevstack.types.traffic import Lamp
from tests.export.bags import Read, read_mcap, stamp_us, xyz, yaw_of
from tests.export.scenes import (
    POSITION_M,
    VELOCITY_MPS,
    YAW_RAD,
    angle_between,
    random_drive,
    rotation,
    truths,
    yaw_sweep,
)

LABELS = {  # of the published table
    "car": 1,
    "truck": 2,
    "bus": 3,
    "trailer": 4,
    "construction_vehicle": 2,
    "motorcycle": 5,
    "bicycle": 6,
    "pedestrian": 7,
    "traffic_cone": 0,
    "barrier": 0,
}


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store("humble", "1.8")


def by_topic(messages: list[Read]) -> dict[str, list[Any]]:
    topics = defaultdict(list)
    for topic, _, message in messages:
        topics[topic.removeprefix("/bevstack/")].append(message)
    return topics


def expect_kinematics(
    pose: Any, twist: Any, truth: Any, *, known: bool = True, spread: bool
) -> None:
    assert np.abs(xyz(pose.pose.position) - truth.center).max() < POSITION_M
    yaw = yaw_of(pose.pose.orientation)
    assert angle_between(yaw, truth.yaw) < YAW_RAD
    if known:  # the twist stands in the object's axes: turned back, it is the velocity
        velocity = rotation(yaw) @ xyz(twist.twist.linear)
        assert np.abs(velocity[:2] - truth.velocity).max() < VELOCITY_MPS and velocity[2] == 0
    if spread:
        covariance = np.array(pose.covariance).reshape(6, 6)
        assert covariance[:2, :2] == pytest.approx(truth.covariance[:2, :2], abs=1e-9)
        assert not covariance[2:].any() and not covariance[:, 2:].any()  # unknown
        turn = rotation(yaw)[:2, :2]
        spread_of_twist = turn @ np.array(twist.covariance).reshape(6, 6)[:2, :2] @ turn.T
        assert spread_of_twist == pytest.approx(truth.covariance[2:, 2:], abs=1e-9)


def test_detections_are_read_back(tmp_path: Path, store: MessageStore) -> None:
    frames = random_drive(tracks=False, seed=6)
    write_autoware(tmp_path / "drive.mcap", frames, store)
    topics = by_topic(read_mcap(tmp_path / "drive.mcap"))
    assert set(topics) <= {"/tf", "objects", "traffic_lights", "extension"}
    count = 0
    for frame, message in zip(frames, topics["objects"], strict=True):
        assert stamp_us(message.header.stamp) == frame.timestamp_us
        assert message.header.frame_id == "base_link"
        for row, (found, truth) in enumerate(
            zip(message.objects, truths(frame, world=False), strict=True)
        ):
            known = not np.isnan(truth.velocity).any()
            kinematics = found.kinematics
            assert kinematics.has_twist is known
            assert not kinematics.has_position_covariance and not kinematics.has_twist_covariance
            pose, twist = kinematics.pose_with_covariance, kinematics.twist_with_covariance
            expect_kinematics(pose, twist, truth, known=known, spread=False)
            name = frame.objects.class_names[row]
            (label,) = found.classification
            assert (label.label, label.probability) == (LABELS[name], 1)
            assert kinematics.orientation_availability == (
                1 if name in ("barrier", "traffic_cone") else 2
            )
            assert found.existence_probability == np.float32(frame.objects.scores[row])
            assert xyz(found.shape.dimensions) == pytest.approx(frame.objects.size[row], abs=1e-9)
            assert found.shape.type == 0
            count += 1
    assert count > 400


@pytest.mark.parametrize("drive", ["random", "sweep"])
def test_tracks_are_read_back(tmp_path: Path, store: MessageStore, drive: str) -> None:
    frames = random_drive(tracks=True, seed=7) if drive == "random" else yaw_sweep()
    write_autoware(tmp_path / "drive.mcap", frames, store)
    topics = by_topic(read_mcap(tmp_path / "drive.mcap"))
    for frame, message in zip(frames, topics["tracks"], strict=True):
        assert stamp_us(message.header.stamp) == frame.timestamp_us
        keys = [uuid.UUID(bytes=bytes(found.object_id.uuid)) for found in message.objects]
        assert tuple(keys) == frame.object_ids()
        for found, truth in zip(message.objects, truths(frame, world=False), strict=True):
            kinematics = found.kinematics
            pose, twist = kinematics.pose_with_covariance, kinematics.twist_with_covariance
            expect_kinematics(pose, twist, truth, spread=True)
            assert kinematics.is_stationary is bool(np.hypot(*truth.velocity) < 0.2)
            if drive == "sweep":  # forward at 7 m/s, 0.5 m/s to the left, at every heading
                assert xyz(twist.twist.linear) == pytest.approx((7, 0.5, 0), abs=1e-9)
                assert np.array(twist.covariance)[[0, 1, 7]] == pytest.approx((0.9, 0, 0.1))
    for frame, message in zip(frames, topics["/tf"], strict=True):
        (transform,) = message.transforms
        assert (transform.header.frame_id, transform.child_frame_id) == ("map", "base_link")
        turn = transform.transform.rotation
        x, y, z, w = turn.x, turn.y, turn.z, turn.w
        ahead = np.array((1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)))
        assert ahead == pytest.approx(frame.world_from_ego[:3, 0], abs=1e-9)
        assert xyz(transform.transform.translation) == pytest.approx(frame.world_from_ego[:3, 3])


def test_a_track_keeps_its_id_and_another_drive_has_other_ids() -> None:
    first, second = random_drive(tracks=True, seed=8, count=2)
    moved = dataclasses.replace(second, objects=first.objects, paths=first.paths)
    assert moved.object_ids() == first.object_ids()
    other = dataclasses.replace(first, drive="scene-0062")
    assert not set(other.object_ids()) & set(first.object_ids())


def test_paths_start_at_the_object_and_the_rest_is_text(
    tmp_path: Path, store: MessageStore
) -> None:
    frames = random_drive(tracks=True, seed=9, count=20)
    write_autoware(tmp_path / "drive.mcap", frames, store)
    topics = by_topic(read_mcap(tmp_path / "drive.mcap"))
    for frame, message, text in zip(frames, topics["predicted"], topics["extension"], strict=True):
        for row, found in enumerate(message.objects):
            (path,) = found.kinematics.predicted_paths
            assert (path.time_step.sec, path.time_step.nanosec) == (0, 500_000_000)
            assert path.confidence == 1 and len(path.path) == 7
            points = np.array([xyz(pose.position) for pose in path.path])
            assert points[0] == pytest.approx(frame.objects.center[row])
            assert points[1:, :2] == pytest.approx(frame.paths.position[row])
            for pose, yaw in zip(path.path[1:], frame.paths.yaw[row], strict=True):
                assert angle_between(yaw_of(pose.orientation), yaw) < YAW_RAD
        entry = json.loads(text.data)
        assert [cue["meaning"] for cue in entry["cues"]] == [cue.meaning for cue in frame.cues]
        assert entry["sectors"]["trust"] == frame.sectors.trust.tolist()
        found = np.array(entry["predicted_paths"]["state_covariance"]).reshape(-1, 6, 4, 4)
        assert found == pytest.approx(frame.paths.covariance)


def lit(frame: PlanningFrame, *, map_id: str | None) -> PlanningFrame:
    """Return a frame with one light of two lamps."""
    cue = next(c for f in random_drive(tracks=False, seed=6, count=9) for c in f.cues)
    lamps = (Lamp("yellow", "left", "flashing"), Lamp("red", "tram", "on"))
    state = tuple(LampBelief(lamp, 0.75) for lamp in lamps)
    cue = dataclasses.replace(cue, kind="light", state=state, map_id=map_id)
    return dataclasses.replace(frame, cues=(cue,))


@pytest.mark.parametrize("version", ["1.1", "1.8", "newest"])
def test_lights_have_the_id_of_the_map(tmp_path: Path, version: str) -> None:
    types = open_store("jazzy", version)
    (frame,) = random_drive(tracks=False, seed=10, count=1)
    write_autoware(tmp_path / "drive.mcap", [lit(frame, map_id="4711")], types)
    (message,) = by_topic(read_mcap(tmp_path / "drive.mcap"))["traffic_lights"]
    assert stamp_us(message.stamp) == frame.timestamp_us
    (group,) = message.traffic_light_groups
    assert group.traffic_light_group_id == 4711
    assert hasattr(group, "predictions") is (version != "1.1")
    values = [(e.color, e.shape, e.status, e.confidence) for e in group.elements]
    assert values == [(2, 2, 3, 0.75), (1, 0, 2, 0.75)]


def test_lights_without_an_id_are_left_out_or_hashed(tmp_path: Path, store: MessageStore) -> None:
    (frame,) = random_drive(tracks=False, seed=10, count=1)
    write_autoware(tmp_path / "a.mcap", [lit(frame, map_id=None)], store)
    assert "traffic_lights" not in by_topic(read_mcap(tmp_path / "a.mcap"))
    for name in "bc":
        options = AutowareOptions(light_ids="hash")
        write_autoware(tmp_path / f"{name}.mcap", [lit(frame, map_id=None)], store, options)
    (message,) = by_topic(read_mcap(tmp_path / "b.mcap"))["traffic_lights"]
    assert message.traffic_light_groups[0].traffic_light_group_id > 0
    assert (tmp_path / "b.mcap").read_bytes() == (tmp_path / "c.mcap").read_bytes()


def test_hazards_need_the_newest_labels(tmp_path: Path, store: MessageStore) -> None:
    frames = random_drive(tracks=False, seed=11, count=20)
    options = AutowareOptions(hazards=True)
    with pytest.raises(ValueError, match=r"autoware must be 'newest' .* got '1.8'"):
        write_autoware(tmp_path / "a.mcap", frames, store, options)
    write_autoware(tmp_path / "a.mcap", frames, open_store("humble", "newest"), options)
    seen = set()
    for frame, message in zip(
        frames, by_topic(read_mcap(tmp_path / "a.mcap"))["objects"], strict=True
    ):
        for row, found in enumerate(message.objects):
            name = frame.objects.class_names[row]
            speed = np.hypot(*np.nan_to_num(frame.objects.velocity[row]))
            hazard = name in ("barrier", "traffic_cone") or (
                name == "construction_vehicle" and speed < 0.2
            )
            assert found.classification[0].label == (9 if hazard else LABELS[name])
            seen.add((name, hazard))
    assert {("car", False), ("barrier", True), ("traffic_cone", True)} <= seen


def test_wrong_choices_are_one_sentence(tmp_path: Path, store: MessageStore) -> None:
    frames = random_drive(tracks=False, seed=11, count=1)
    for make, message in (
        (lambda: open_store("foxtrot"), "distro must be one of noetic, humble.*'foxtrot'"),
        (lambda: open_store(autoware="2"), "autoware must be one of 1.1, 1.8, newest; got '2'"),
        (lambda: AutowareOptions(light_ids="x"), "light_ids must be one of map, hash; got 'x'"),
        (lambda: write_autoware(tmp_path / "a.bag", frames, store), r"must end in \.mcap"),
        (lambda: write_autoware(tmp_path / "a.bag", frames, open_store("noetic")), "ROS 2"),
        (lambda: store["std_msgs/Nothing"], "message type must be one of humble"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    assert not list(tmp_path.iterdir())
