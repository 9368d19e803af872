"""Frames of a data set at the times and poses of their front cameras, as a node sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.runtime.detector import Detector
from bevstack.types import Frame

VERSION = "v1.0-synth"


def frames_at_front(root: Path, detector: Detector, *, reduced: bool) -> list[Frame]:
    """Return the frames as `bevstack predict` reads them, each at its front camera's time."""
    data = NuScenesDataset(root, VERSION)
    images_for = detector.config if reduced else None
    frames = [data.frame(index, images_for=images_for) for index in range(len(data))]
    poses = [frame.world_from_ego_at_camera for frame in frames]
    return [
        replace(
            frame,
            timestamp_us=frame.camera_timestamp_us[0],
            world_from_ego=pose[0],
            bev_from_ego=None,
        )
        for frame, pose in zip(frames, poses, strict=True)
        if pose is not None
    ]
