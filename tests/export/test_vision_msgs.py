"""Bags with vision_msgs are read back: MCAP by mcap-ros2-support, ROS 1 bags by rosbags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from rosbags.rosbag1 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bevstack.export.messages.store import MessageStore, open_store
from bevstack.export.planning.scene import PlanningFrame
from bevstack.export.planning.vision_msgs import write_vision_msgs
from bevstack.vocabulary import DETECTION_CLASSES
from tests.export.bags import read_mcap, stamp_us, xyz, yaw_of
from tests.export.scenes import (
    POSITION_M,
    VELOCITY_MPS,
    YAW_RAD,
    angle_between,
    random_drive,
    truths,
    yaw_sweep,
)

# The checksum that Debian's genpy computes for ROS 1's Detection3DArray.
MD5_START = "05c51d9a"


def expect_boxes(frame: PlanningFrame, message: Any, extension: Any) -> int:
    """Compare one array with a frame, but for the ids and classes."""
    assert message.header.frame_id == "base_link"
    entries = json.loads(extension.data)["objects"]
    found = zip(message.detections, truths(frame, world=False), entries, strict=True)
    for row, (detection, truth, entry) in enumerate(found):
        for pose in (detection.bbox.center, detection.results[0].pose.pose):
            assert np.abs(xyz(pose.position) - truth.center).max() < POSITION_M
            assert angle_between(yaw_of(pose.orientation), truth.yaw) < YAW_RAD
        assert xyz(detection.bbox.size) == pytest.approx(frame.objects.size[row], abs=1e-9)
        covariance = np.array(detection.results[0].pose.covariance).reshape(6, 6)
        expected = np.zeros((2, 2)) if truth.covariance is None else truth.covariance[:2, :2]
        assert covariance[:2, :2] == pytest.approx(expected, abs=1e-9)
        if entry["velocity_mps"] is None:
            assert np.isnan(truth.velocity).any()
        else:
            assert np.abs(np.array(entry["velocity_mps"]) - truth.velocity).max() < VELOCITY_MPS
    return len(entries)


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store("jazzy")


@pytest.mark.parametrize("drive", ["detections", "tracks", "sweep"])
def test_mcap_is_read_back(tmp_path: Path, store: MessageStore, drive: str) -> None:
    frames = yaw_sweep() if drive == "sweep" else random_drive(tracks=drive == "tracks", seed=12)
    count = write_vision_msgs(tmp_path / "drive.mcap", frames, store)
    messages = read_mcap(tmp_path / "drive.mcap")
    assert len(messages) == count == 3 * len(frames)
    arrays = [m for m in messages if m.topic == "/bevstack/detections"]
    extensions = [m.message for m in messages if m.topic == "/bevstack/extension"]
    total = 0
    for frame, (_, time_ns, array), extension in zip(frames, arrays, extensions, strict=True):
        assert stamp_us(array.header.stamp) * 1000 == time_ns == frame.timestamp_us * 1000
        total += expect_boxes(frame, array, extension)
        ids = [detection.id for detection in array.detections]
        none = frame.objects.identity is None
        assert ids == ["" if none else str(key) for key in frame.object_ids()]
        found = [d.results[0].hypothesis for d in array.detections]
        assert [h.class_id for h in found] == list(frame.objects.class_names)
        assert [h.score for h in found] == frame.objects.scores.tolist()
    assert total >= 360


def test_a_bag_of_ros_1_is_read_back_with_types_from_the_bag(tmp_path: Path) -> None:
    frames = random_drive(tracks=True, seed=13)
    write_vision_msgs(tmp_path / "drive.bag", frames, open_store("noetic"))
    empty = get_typestore(Stores.EMPTY)
    arrays, extensions = [], []
    with Reader(tmp_path / "drive.bag") as bag:
        for connection in bag.connections:  # the reader's types are those that the bag holds
            empty.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, time_ns, data in bag.messages():
            message = empty.deserialize_ros1(data, connection.msgtype)
            if connection.topic == "/bevstack/detections":
                arrays.append((time_ns, message))
                assert connection.digest.startswith(MD5_START)
            elif connection.topic == "/bevstack/extension":
                extensions.append(message)
    for frame, (time_ns, array), extension in zip(frames, arrays, extensions, strict=True):
        stamp = array.header.stamp
        assert stamp.sec * 1_000_000_000 + stamp.nanosec == time_ns == 1000 * frame.timestamp_us
        expect_boxes(frame, array, extension)
        found = [d.results[0] for d in array.detections]
        assert [DETECTION_CLASSES[h.id] for h in found] == list(frame.objects.class_names)
        assert [h.score for h in found] == frame.objects.scores.tolist()


def test_the_suffix_names_the_kind_of_bag(tmp_path: Path, store: MessageStore) -> None:
    frames = random_drive(tracks=True, seed=13, count=1)
    with pytest.raises(ValueError, match=r"bag of jazzy must end in .mcap or .db3; got .*\.bag"):
        write_vision_msgs(tmp_path / "drive.bag", frames, store)
    with pytest.raises(ValueError, match=r"bag of noetic must end in .bag; got .*\.mcap"):
        write_vision_msgs(tmp_path / "drive.mcap", frames, open_store("noetic"))
    assert not list(tmp_path.iterdir())
