"""Poses of the vehicle in the last frames, for pictures that are older than their frame."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bevstack.runtime.pose_track import PoseTrack
from bevstack.types import Frame

_KEPT_US = 2_000_000  # longer than any picture is used


class EgoPath:
    """Poses at the times of the last frames of one drive."""

    def __init__(self) -> None:
        self._times_us: list[int] = []
        self._poses: list[Tensor] = []  # (4, 4) float64 each

    def add(self, frame: Frame) -> None:
        """Keep the pose of the next frame, if it has a pose and a later time."""
        pose, time_us = frame.world_from_ego, frame.timestamp_us
        if pose is None or not time_us or (self._times_us and time_us <= self._times_us[-1]):
            return
        self._times_us.append(time_us)
        self._poses.append(pose)
        while time_us - self._times_us[0] > _KEPT_US and len(self._times_us) > 2:
            del self._times_us[0], self._poses[0]

    def at(self, time_us: int) -> Tensor | None:  # (4, 4) float64
        """Return the pose at a time; None without two frames around which the vehicle moves."""
        return PoseTrack(np.array(self._times_us, np.int64), self._poses).at(time_us)

    def camera_pose(self, frame: Frame, camera: int) -> Tensor | None:  # (4, 4) float64
        """Return the pose of the vehicle at the time of a camera's picture; None if unknown."""
        if frame.world_from_ego_at_camera is not None:
            return frame.world_from_ego_at_camera[camera]
        time_us = frame.camera_timestamp_us[camera] if frame.camera_timestamp_us else 0
        if not time_us or time_us == frame.timestamp_us:
            return frame.world_from_ego
        known = self.at(time_us)
        return frame.world_from_ego if known is None else known
