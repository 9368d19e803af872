"""Poses between frames follow the motion, and no jump."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bevstack.runtime.pose_track import PoseTrack


def pose(x: float, y: float, yaw: float) -> Tensor:
    cos, sin = math.cos(yaw), math.sin(yaw)
    rows = [[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, 0], [0, 0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


TRACK = PoseTrack(
    np.array([0, 500_000, 1_000_000]), [pose(0, 0, 3.0), pose(5, 1, 3.4), pose(5, 1, 3.4)]
)


@pytest.mark.parametrize(
    ("time_us", "wanted"),
    [
        (0, (0, 0, 3.0)),
        (125_000, (1.25, 0.25, 3.1)),  # across the heading of half a turn
        (500_000, (5, 1, 3.4)),
        (750_000, (5, 1, 3.4)),
        (-50_000, (-0.5, -0.1, 2.96)),
        (1_100_000, (5, 1, 3.4)),
    ],
)
def test_poses_between_frames_follow_the_motion(
    time_us: int, wanted: tuple[float, float, float]
) -> None:
    # trigonometric functions of float64
    torch.testing.assert_close(TRACK.at(time_us), pose(*wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("times", "poses"),
    [
        ([0], [pose(0, 0, 0)]),
        ([0, 500_000], [pose(0, 0, 0), pose(60, 0, 0)]),
        ([0, 3_000_000], [pose(0, 0, 0), pose(1, 0, 0)]),
    ],
)
def test_no_pose_is_made_up_without_a_motion(times: list[int], poses: list[Tensor]) -> None:
    assert PoseTrack(np.array(times), poses).at(100_000) is None
