"""Check of the rig of a stream of frames: once, and again when its calibration changes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bevstack.geometry.rig_plausibility import RigCameras, find_rig_faults, warn_of_rig_faults
from bevstack.types import Frame


class RigWatch:
    """Check of the calibrations of successive frames; equal ones are checked once."""

    def __init__(self) -> None:
        self._checked: tuple[tuple[str, ...], Tensor, Tensor] | None = None

    def check(self, frame: Frame) -> None:
        """Warn of cameras that cannot be; a frame whose source has checked its rig is skipped.

        Warns:
            ImplausibleRigWarning: see ``find_rig_faults``.
        """
        if frame.rig_checked or self._is_checked(frame):
            return
        count = frame.num_cameras
        sizes = [(0, 0) if image is None else image.shape[:2] for image in frame.images]
        cameras = RigCameras(
            names=frame.camera_names or [str(index) for index in range(count)],
            ego_from_cam=frame.ego_from_cam.numpy(),
            intrinsics=frame.intrinsics.numpy(),
            image_size=np.array(sizes),
        )
        warn_of_rig_faults(find_rig_faults(cameras))
        self._checked = (frame.camera_names, frame.ego_from_cam, frame.intrinsics)

    def _is_checked(self, frame: Frame) -> bool:
        if self._checked is None:
            return False
        names, poses, intrinsics = self._checked
        return (
            names == frame.camera_names
            and torch.equal(poses, frame.ego_from_cam)
            and torch.equal(intrinsics, frame.intrinsics)
        )
