"""Transforms between named frames: static ones, and the vehicle's pose over time."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bevstack.geometry import invert_se3, se3_from_parts
from bevstack.runtime.node.inputs import Floats
from bevstack.runtime.pose_track import PoseTrack

_UNIT = 1e-2  # a quaternion's length may differ from 1 by this
_MAX_METRES = 1e8
_MAX_DEPTH = 32
_MAX_FRAMES = 1000
_MAX_POSES = 10_000  # 1 kHz over the length of the buffer


def pose_from_parts(what: str, translation_m: Floats, rotation_wxyz: Floats) -> Tensor:  # (4, 4)
    """Return a pose.

    Raises:
        ValueError: a number is not finite or too large, or the quaternion has no length of 1.
    """
    if not (np.isfinite(translation_m).all() and np.isfinite(rotation_wxyz).all()):
        raise ValueError(
            f"{what} must be finite; got translation {translation_m.tolist()} and quaternion wxyz "
            f"{rotation_wxyz.tolist()}: the localisation has failed, or was not started"
        )
    if np.abs(translation_m).max() > _MAX_METRES:
        raise ValueError(f"{what} must be in metres; got {translation_m.tolist()}")
    length = float(np.linalg.norm(rotation_wxyz))
    if abs(length - 1) > _UNIT:
        raise ValueError(
            f"quaternion of {what} must have a length of 1; got {length:.3g}: set w to 1 for no "
            "rotation, or normalise it"
        )
    return se3_from_parts(torch.from_numpy(rotation_wxyz), torch.from_numpy(translation_m))


@dataclass
class StaticTree:
    """Frames that do not move against one another, as /tf_static states them."""

    _parents: dict[str, tuple[str, Tensor]] = field(default_factory=dict)

    def set(self, parent: str, child: str, parent_from_child: Tensor) -> bool:
        """Set a frame's place; return True if it was another one before.

        Raises:
            ValueError: the frames form a circle.
        """
        if child == parent or child in self._chain(parent):
            raise ValueError(
                f"static transforms must form a tree; got {child} in {parent}, a circle"
            )
        before = self._parents.get(child)
        if before is None and len(self._parents) >= _MAX_FRAMES:
            raise ValueError(f"frames must be at most {_MAX_FRAMES}; got {child} in {parent} too")
        self._parents[child] = (parent, parent_from_child)
        return before is not None and not (
            before[0] == parent and torch.equal(before[1], parent_from_child)
        )

    def lookup(self, target: str, source: str) -> Tensor | None:  # (4, 4) target_from_source
        """Return a frame's place in another one; None if they are not connected."""
        to_target, to_source = self._chain(target), self._chain(source)
        shared = next((name for name in to_source if name in to_target), None)
        if shared is None:
            return None
        return invert_se3(to_target[shared]) @ to_source[shared]

    def _chain(self, name: str) -> dict[str, Tensor]:
        """Return the pose of a frame in itself and in each of its ancestors."""
        poses = {name: torch.eye(4, dtype=torch.float64)}
        current, pose = name, poses[name]
        for _ in range(_MAX_DEPTH):
            if current not in self._parents:
                break
            current, parent_from_child = self._parents[current]
            pose = parent_from_child @ pose
            poses[current] = pose
        return poses


@dataclass(frozen=True)
class PoseGap:
    """A reason why the vehicle's pose at a time is unknown."""

    reason: str


class PoseBuffer:
    """Poses of the vehicle of the last seconds.

    Args:
        length_s: the oldest poses are dropped.
        max_extrapolation_s: a later time than the last pose's is refused beyond this.
    """

    def __init__(self, *, length_s: float = 10.0, max_extrapolation_s: float = 0.05) -> None:
        self.length_us = round(1e6 * length_s)
        self.max_extrapolation_us = round(1e6 * max_extrapolation_s)
        self._times_us: list[int] = []
        self._poses: list[Tensor] = []

    def __len__(self) -> int:
        """Return the number of poses."""
        return len(self._times_us)

    @property
    def last_us(self) -> int | None:
        """Return the time of the newest pose."""
        return self._times_us[-1] if self._times_us else None

    def clear(self) -> None:
        """Forget all poses."""
        self._times_us.clear()
        self._poses.clear()

    def add(self, timestamp_us: int, world_from_ego: Tensor) -> None:
        """Add a pose; one of the same time is replaced."""
        place = bisect.bisect_left(self._times_us, timestamp_us)
        if place < len(self._times_us) and self._times_us[place] == timestamp_us:
            self._poses[place] = world_from_ego
            return
        self._times_us.insert(place, timestamp_us)
        self._poses.insert(place, world_from_ego)
        oldest = bisect.bisect_left(self._times_us, self._times_us[-1] - self.length_us)
        oldest = max(oldest, len(self._times_us) - _MAX_POSES)
        del self._times_us[:oldest], self._poses[:oldest]

    def at(self, timestamp_us: int) -> Tensor | PoseGap:  # (4, 4) world_from_ego
        """Return the pose at a time, interpolated between its neighbours, or a reason for none."""
        times = self._times_us
        if not times:
            return PoseGap("no pose was received")
        place = bisect.bisect_left(times, timestamp_us)
        if place < len(times) and times[place] == timestamp_us:
            return self._poses[place]
        if place == 0:
            return PoseGap(f"the oldest pose is {_ms(times[0] - timestamp_us)} ms newer")
        if place == len(times):
            beyond_us = timestamp_us - times[-1]
            if beyond_us > self.max_extrapolation_us:
                return PoseGap(f"the newest pose is {_ms(beyond_us)} ms older")
            if len(times) == 1:
                return PoseGap("one pose alone gives no motion")
        first = min(place, len(times) - 1) - 1
        neighbours = np.array(times[first : first + 2], dtype=np.int64)
        pose = PoseTrack(neighbours, self._poses[first : first + 2]).at(timestamp_us)
        if pose is None:
            return PoseGap(f"the poses around have a gap of {_ms(int(np.diff(neighbours)[0]))} ms")
        return pose


def _ms(time_us: int) -> int:
    return math.ceil(time_us / 1000)
