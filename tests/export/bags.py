"""Reading of bags with mcap-ros2-support, which shares no code with the writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

reader = pytest.importorskip("mcap_ros2.reader", reason="needs mcap-ros2-support")


class Read(NamedTuple):
    """One message of a bag."""

    topic: str
    time_ns: int
    message: Any


def read_mcap(path: Path) -> list[Read]:
    """Return all messages of an MCAP file in their order."""
    return [
        Read(m.channel.topic, m.log_time_ns, m.ros_msg)
        for m in reader.read_ros2_messages(str(path))
    ]


def stamp_us(stamp: Any) -> int:
    """Return a stamp in microseconds, after a check that it has no finer part."""
    assert stamp.nanosec % 1000 == 0
    return stamp.sec * 1_000_000 + stamp.nanosec // 1000


def yaw_of(quaternion: Any) -> float:
    """Return the heading of an upright pose."""
    assert (quaternion.x, quaternion.y) == (0, 0)
    return 2 * np.arctan2(quaternion.z, quaternion.w)


def xyz(vector: Any) -> np.ndarray:
    """Return a vector or point as an array."""
    return np.array((vector.x, vector.y, vector.z))
