"""Frames fixed to one another, poses over time, and their faults by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bevstack.runtime.node.motion import Motion
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.node.transforms import PoseBuffer, PoseGap, StaticTree, pose_from_parts
from tests.runtime.node.inputs import START_US, mounted, odometry


def pose(x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> torch.Tensor:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("z", yaw).as_matrix()
    matrix[:2, 3] = x, y
    return torch.from_numpy(matrix)


def test_a_chain_of_fixed_frames_is_multiplied() -> None:
    tree = StaticTree()
    a, b, c = pose(1, 0, 0.5), pose(0, 2, -0.3), pose(-4, 1, 1.2)
    assert not tree.set("base", "mast", a) and not tree.set("mast", "head", b)
    assert not tree.set("base", "bumper", c)
    found = tree.lookup("base", "head")
    assert found is not None and torch.allclose(found, a @ b, atol=1e-15)
    across = tree.lookup("bumper", "head")
    assert across is not None and torch.allclose(across, torch.linalg.inv(c) @ a @ b, atol=1e-12)
    assert tree.lookup("base", "nowhere") is None
    assert not tree.set("mast", "head", b) and tree.set("mast", "head", a)
    with pytest.raises(ValueError, match="must form a tree; got base in head, a circle"):
        tree.set("head", "base", a)


def test_a_pose_between_two_is_interpolated_at_constant_speed_and_turn() -> None:
    buffer = PoseBuffer()
    buffer.add(1_000_000, pose(0, 0, 0.2))
    buffer.add(1_100_000, pose(2, 1, 0.4))
    found = buffer.at(1_025_000)
    assert isinstance(found, torch.Tensor)
    assert found.numpy() == pytest.approx(pose(0.5, 0.25, 0.25).numpy(), abs=1e-12)
    exact = buffer.at(1_100_000)
    assert isinstance(exact, torch.Tensor) and torch.equal(exact, pose(2, 1, 0.4))
    ahead = buffer.at(1_150_000)  # 50 ms: just allowed
    assert isinstance(ahead, torch.Tensor)
    assert ahead.numpy() == pytest.approx(pose(3, 1.5, 0.5).numpy(), abs=1e-12)


@pytest.mark.parametrize(
    ("times_ms", "asked_ms", "reason"),
    [
        ((), 0, "no pose was received"),
        ((100, 200), 251, "the newest pose is 51 ms older"),
        ((100, 200), 99, "the oldest pose is 1 ms newer"),
        ((100,), 120, "one pose alone gives no motion"),
        ((100, 2_600), 300, "the poses around have a gap of 2500 ms"),
    ],
)
def test_an_unknown_pose_has_a_reason(
    times_ms: tuple[int, ...], asked_ms: int, reason: str
) -> None:
    buffer = PoseBuffer()
    for number, time_ms in enumerate(times_ms):
        buffer.add(1000 * time_ms, pose(number))
    assert buffer.at(1000 * asked_ms) == PoseGap(reason)


def test_old_poses_are_dropped_and_poses_may_come_out_of_order() -> None:
    buffer = PoseBuffer(length_s=1.0)
    for number in range(100):
        buffer.add(100_000 * number, pose(number))
    assert len(buffer) == 11 and buffer.last_us == 9_900_000
    buffer.add(9_850_000, pose(98.4))
    found = buffer.at(9_875_000)
    assert isinstance(found, torch.Tensor) and float(found[0, 3]) == pytest.approx(98.7)


@pytest.mark.parametrize(
    ("translation", "rotation", "message"),
    [
        ((0, 0, np.nan), (1, 0, 0, 0), "odometry must be finite; got translation"),
        ((0, 0, 0), (0, 0, 0, 0), "quaternion of odometry must have a length of 1; got 0: set w"),
        ((0, 0, 0), (2, 0, 0, 0), "must have a length of 1; got 2"),
        ((1e9, 0, 0), (1, 0, 0, 0), "odometry must be in metres"),
    ],
)
def test_impossible_poses_are_named(
    translation: tuple[float, ...], rotation: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pose_from_parts("odometry", np.array(translation, float), np.array(rotation, float))


def test_odometry_of_other_frames_is_counted_and_named() -> None:
    motion = Motion(Parameters())
    motion.add_odometry(odometry(START_US))
    motion.add_odometry(odometry(START_US + 1, child="chassis"))
    assert len(motion.poses) == 1 and motion.errors == 1
    assert "got 'chassis' in 'odom': set the parameters base_frame" in motion.last_error


def test_transforms_give_the_motion_through_a_fixed_frame() -> None:
    motion = Motion(Parameters({"ego_motion": "tf"}))
    moving = dataclasses.replace(
        mounted("CAM_FRONT"), parent="odom", child="footprint", is_static=False
    )
    motion.add_transform(moving)
    assert len(motion.poses) == 0  # nothing connects it with the vehicle yet
    fixed = dataclasses.replace(mounted("CAM_BACK"), parent="/footprint", child="base_link")
    motion.add_transform(fixed)
    motion.add_transform(moving)
    found = motion.at(moving.timestamp_us)
    parts = [pose_from_parts("t", t.translation_m, t.rotation_wxyz) for t in (moving, fixed)]
    assert isinstance(found, torch.Tensor)
    assert torch.allclose(found, parts[0] @ parts[1], atol=1e-15)
    motion.add_odometry(odometry(START_US + 5))  # not the source
    assert len(motion.poses) == 1


def test_a_standing_vehicle_needs_no_pose() -> None:
    motion = Motion(Parameters({"ego_motion": "none"}))
    found = motion.at(123)
    assert isinstance(found, torch.Tensor) and torch.equal(found, torch.eye(4).double())
    assert motion.poses_until_us is None


@pytest.mark.parametrize(("offset_s", "text"), [(1_000, "+1000.0 s"), (-11, "-11.0 s")])
def test_a_pose_of_another_time_is_refused_and_the_good_ones_stay(offset_s: int, text: str) -> None:
    motion = Motion(Parameters())
    motion.now_us = START_US
    motion.add_odometry(odometry(START_US))
    motion.add_odometry(odometry(START_US + offset_s * 1_000_000))
    assert len(motion.poses) == 1 and motion.poses.last_us == START_US and motion.errors == 1
    assert f"stamp of odometry must be near the node's time; got {text}: sync" in motion.last_error


def test_poses_of_any_rate_are_bounded() -> None:
    buffer, still = PoseBuffer(), pose()
    for time_us in range(0, 30_000, 2):
        buffer.add(time_us, still)
    assert len(buffer) == 10_000 and buffer.last_us == 29_998
