"""Common mistakes in camera poses, each with the function that reverses it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.geometry.se3 import (
    invert_se3,
    quaternion_from_rotation,
    rotation_from_quaternion,
)

Poses = NDArray[np.float64]  # (N, 4, 4) ego_from_cam

# Rotation of an optical frame (x right, y down, z forward) into x forward, y left, z up.
_VEHICLE_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_OPTICAL_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])  # its own inverse


def _invert(poses: Poses) -> Poses:
    """Return cam_from_ego."""
    return np.asarray(invert_se3(torch.from_numpy(poses)).numpy())


def _from_camera_axes(rotation: NDArray[np.float64]) -> Callable[[Poses], Poses]:
    """Return a function that replaces the camera's axes and keeps its position."""

    def reverse(poses: Poses) -> Poses:
        return _compose(poses[:, :3, :3] @ rotation, poses[:, :3, 3])

    return reverse


def _from_ego_axes(rotation: NDArray[np.float64]) -> Callable[[Poses], Poses]:
    """Return a function that replaces the axes of the ego frame."""

    def reverse(poses: Poses) -> Poses:
        return _compose(rotation @ poses[:, :3, :3], poses[:, :3, 3] @ rotation.T)

    return reverse


def _from_xyzw(poses: Poses) -> Poses:
    """Return the poses whose quaternions were given as x, y, z, w and read as w, x, y, z."""
    rotation = _rotations_of_reordered_quaternions(poses[:, :3, :3], (3, 0, 1, 2))
    return _compose(rotation, poses[:, :3, 3])


def _from_wxyz(poses: Poses) -> Poses:
    """Return the poses whose quaternions were given as w, x, y, z and read as x, y, z, w."""
    rotation = _rotations_of_reordered_quaternions(poses[:, :3, :3], (1, 2, 3, 0))
    return _compose(rotation, poses[:, :3, 3])


def _scaled(factor: float) -> Callable[[Poses], Poses]:
    """Return a function that changes the unit of the position."""

    def reverse(poses: Poses) -> Poses:
        return _compose(poses[:, :3, :3], factor * poses[:, :3, 3])

    return reverse


def _with_positive_height(poses: Poses) -> Poses:
    return _compose(poses[:, :3, :3], poses[:, :3, 3] * np.array([1.0, 1.0, -1.0]))


def _compose(rotation: NDArray[np.float64], position: NDArray[np.float64]) -> Poses:
    poses = np.tile(np.eye(4), (len(position), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotation, position
    return poses


def _rotations_of_reordered_quaternions(
    rotation: NDArray[np.float64],  # (N, 3, 3)
    order: tuple[int, int, int, int],
) -> NDArray[np.float64]:  # (N, 3, 3)
    """Return the rotations whose quaternions (w, x, y, z) have these components of the given."""
    quaternions = quaternion_from_rotation(torch.from_numpy(rotation))  # (N, 4) wxyz
    return np.asarray(rotation_from_quaternion(quaternions[:, list(order)]).numpy())


def _about_z(degrees: float) -> NDArray[np.float64]:
    cos, sin = np.cos(np.radians(degrees)).round(), np.sin(np.radians(degrees)).round()
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


# Mistake and its reversal; of mistakes that explain equally, the first one is named.
CAUSES: tuple[tuple[str, Callable[[Poses], Poses]], ...] = (
    ("a position in centimetres instead of metres", _scaled(1e-2)),
    ("a position in millimetres instead of metres", _scaled(1e-3)),
    ("ego_from_cam given as cam_from_ego (the inverse)", _invert),
    (
        "camera axes of the vehicle convention (x forward, y left, z up) instead of x right, y "
        "down, z forward",
        _from_camera_axes(_VEHICLE_FROM_OPTICAL),
    ),
    (
        "camera axes of OpenGL (x right, y up, z backward) instead of x right, y down, z forward",
        _from_camera_axes(_OPTICAL_FROM_OPENGL),
    ),
    ("a quaternion in the order x, y, z, w instead of w, x, y, z", _from_xyzw),
    ("a quaternion whose w was moved to the end", _from_wxyz),
    (
        "ego axes x forward, y right, z down instead of x forward, y left, z up",
        _from_ego_axes(_OPTICAL_FROM_OPENGL),
    ),
    (
        "ego axes x right, y forward, z up instead of x forward, y left, z up",
        _from_ego_axes(_about_z(-90.0)),
    ),
    (
        "ego axes of a camera (x right, y down, z forward) instead of x forward, y left, z up",
        _from_ego_axes(_VEHICLE_FROM_OPTICAL),
    ),
    ("an ego frame that points backward", _from_ego_axes(_about_z(180.0))),
    ("a height that counts downward", _with_positive_height),
)
