"""Poses of a vehicle between the frames of a drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

_MAX_GAP_US = 2_000_000  # between two frames whose poses are interpolated
_MAX_SPEED_MPS = 100.0  # a faster one is a jump of the pose, not a motion


@dataclass(frozen=True)
class PoseTrack:
    """Poses at the times of a drive's frames."""

    times_us: NDArray[np.int64]  # (F,) ascending
    world_from_ego: Sequence[Tensor]  # F of (4, 4) float64

    def at(self, time_us: int) -> Tensor | None:  # (4, 4) float64
        """Return the pose at a time, at constant speed and turn between the two nearest frames.

        Beyond the first or last frame the motion of the nearest two continues. None if there is no
        motion to follow: a single frame, a long gap, or a jump of the pose.
        """
        if len(self.times_us) < 2:
            return None
        after = int(np.searchsorted(self.times_us, time_us))
        after = min(max(after, 1), len(self.times_us) - 1)
        start, end = self.world_from_ego[after - 1], self.world_from_ego[after]
        first_us, last_us = self.times_us[after - 1 : after + 1].tolist()
        elapsed_us = last_us - first_us
        moved = end[:3, 3] - start[:3, 3]
        if elapsed_us > _MAX_GAP_US or 1e6 * float(moved.norm()) > _MAX_SPEED_MPS * elapsed_us:
            return None
        part = (time_us - first_us) / elapsed_us
        turn = Rotation.from_matrix((start[:3, :3].T @ end[:3, :3]).numpy()).as_rotvec()
        pose = torch.eye(4, dtype=torch.float64)
        turned = torch.from_numpy(Rotation.from_rotvec(part * turn).as_matrix())
        pose[:3, :3] = start[:3, :3] @ turned
        pose[:3, 3] = start[:3, 3] + part * moved
        return pose
