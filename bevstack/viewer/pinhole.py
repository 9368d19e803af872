"""Pinhole camera of a view: where it stands, and where points are in its picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bevstack.viewer.moment import Floats
from bevstack.viewer.view_state import Eye

FIELD_RAD = math.radians(55.0)  # of view, from the top to the bottom of the picture


@dataclass(frozen=True)
class Pinhole:
    """Camera with square pixels and its axis through the middle of the picture."""

    eye: Eye
    size_px: tuple[int, int]  # width, height
    field_rad: float = FIELD_RAD

    @property
    def intrinsics(self) -> Floats:  # (3, 3)
        """Return the camera matrix in pixels; pixel (0, 0) is the corner of the picture."""
        width, height = self.size_px
        focal = height / 2 / math.tan(self.field_rad / 2)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])

    @property
    def cam_from_ego(self) -> Floats:  # (4, 4) camera axes: x right, y down, z forward
        """Return the pose; a camera that looks straight down has the vehicle's front on top."""
        position, target = np.array(self.eye.position_m), np.array(self.eye.look_at_m)
        forward = target - position
        forward = forward / max(float(np.linalg.norm(forward)), 1e-9)
        up = np.array((0.0, 0.0, 1.0)) if abs(forward[2]) < 0.999 else np.array((1.0, 0.0, 0.0))
        right = np.cross(forward, up)
        right = right / np.linalg.norm(right)
        rotation = np.stack((right, np.cross(forward, right), forward))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ position
        return pose

    def to_camera(self, points_m: Floats) -> Floats:  # (..., 3) in the ego frame
        """Return points in the axes of the camera."""
        pose = self.cam_from_ego
        placed: Floats = points_m @ pose[:3, :3].T + pose[:3, 3]
        return placed

    def to_pixels(self, points_cam: Floats) -> Floats:  # (..., 2)
        """Return the pixels of points in front of the camera."""
        pixels = points_cam @ self.intrinsics.T
        projected: Floats = pixels[..., :2] / pixels[..., 2:]
        return projected
