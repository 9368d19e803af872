"""Motion of a camera's points between two pictures, against the motion of the vehicle.

A point that stands still moves along the great circle through the epipole, the direction in which
the camera moves (Hartley and Zisserman, Multiple View Geometry, section 11.7.1). A wrong rotation
of the camera moves the epipole, so the directions of many points show it, wherever the points are.
Vehicles that drive along the same road keep to these circles as well. A rotation about the epipole
itself stays hidden.

Letters: P points. Bearings are unit vectors of a camera's frame (x right, y down, z forward).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

_MAX_POINTS = 140
_SPACING_PX = 7  # least distance of two points
_WEAKEST = 0.005  # corner by the strongest one: weak corners fill the parts without clear ones
_BACK_PX = 0.5  # a point that is tracked there and back must return this near
_WINDOW_PX = (13, 13)
_PYRAMID = 3  # levels: a point moves by up to 50 pixels
_KERNEL_PX = 0.3  # scale of the robust weights: points are tracked to 0.2 pixels
# What the scale grows by, of the pixels that a turn of the vehicle moves the picture. The tracker
# misses a share of each shift; straight ahead this lies along the line, in turns across it.
_TURN_SHARE = 0.2
_PRIOR_RAD = 0.14  # 8 degrees: keeps the fit finite where the points leave a rotation open
_STEPS = 4  # of Gauss-Newton; the problem is nearly linear
_MOVING_PX = 0.7  # a point that moves less has no direction
_REGIONS = (4, 2)  # columns, rows of the picture, whose points witness a rotation apart
_REGION_POINTS = 8  # least number of moving points of a region


@dataclass(frozen=True)
class PointMotion:
    """Points of one camera in two pictures, and the ego motion between them."""

    before: NDArray[np.float64]  # (P, 2) pixel coordinates of the reduced picture
    after: NDArray[np.float64]  # (P, 2)
    rotation: NDArray[np.float64]  # (3, 3) of the ego frame: before from after
    translation_m: NDArray[np.float64]  # (3,) of the ego origin, in the ego frame before


@dataclass(frozen=True)
class View:
    """Calibration of a camera for its reduced pictures."""

    intrinsics: NDArray[np.float64]  # (3, 3) pixels
    ego_from_cam: NDArray[np.float64]  # (4, 4)


@dataclass(frozen=True)
class TurnFit:
    """Rotation of a camera that explains its points better than the calibration."""

    angle_rad: float
    gain: float  # robust loss that the rotation saves; a point that fits at last saves 1 at most
    agreement: float  # share of the regions of the picture whose points the rotation fits better
    backward: float  # share of the moving points that come nearer to the epipole


def track_points(
    before: NDArray[np.uint8],  # (H, W) grey
    after: NDArray[np.uint8],  # (H, W)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (P, 2), (P, 2) pixel coordinates
    """Track corners from one picture to the next, and keep those that are tracked back."""
    found_corners = cv2.goodFeaturesToTrack(before, _MAX_POINTS, _WEAKEST, _SPACING_PX, blockSize=3)
    if found_corners is None:
        return np.zeros((0, 2)), np.zeros((0, 2))
    corners: NDArray[np.float32] = np.asarray(found_corners, np.float32)  # (P, 1, 2)
    there, found = _flow(before, after, corners)
    back, found_back = _flow(after, before, there)
    error = np.linalg.norm((back - corners)[:, 0], axis=1)
    kept = found & found_back & (error < _BACK_PX)
    return corners[kept, 0].astype(np.float64), there[kept, 0].astype(np.float64)


def _flow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    start = np.zeros_like(points)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, start, winSize=_WINDOW_PX, maxLevel=_PYRAMID
    )
    return moved.astype(np.float32), found[:, 0] == 1


@dataclass(frozen=True)
class _Geometry:
    """Bearings of the points of several motions in the ego frame before each motion."""

    before: NDArray[np.float64]  # (P, 3)
    after: NDArray[np.float64]  # (P, 3) turned into the ego frame before
    rotation: NDArray[np.float64]  # (P, 3, 3)
    epipole: NDArray[np.float64]  # (P, 3) unit vector of the camera's motion
    region: NDArray[np.int64]  # (P,) of the picture
    scale: NDArray[np.float64]  # (P,) radians, of the robust weights
    pixel_rad: float

    def turned(self, turn: NDArray[np.float64]) -> _Geometry:  # (3, 3) ego frame
        """Return the bearings after a rotation of the camera about its centre."""
        own = np.einsum("pji,pj->pi", self.rotation, self.after) @ turn.T
        after = np.einsum("pij,pj->pi", self.rotation, own)
        return replace(self, before=self.before @ turn.T, after=after)

    def deviations(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (P,), (P, 3)
        """Return each point's angle from its circle, and the derivative by a rotation."""
        normal = np.cross(self.epipole, self.before)
        length = np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-3)
        deviation = (normal * self.after).sum(1) / length[:, 0]
        own = np.einsum("pji,pj->pi", self.rotation, self.after)
        own_normal = np.einsum("pji,pj->pi", self.rotation, normal)
        slope = np.cross(self.before, np.cross(self.after, self.epipole))
        slope = (slope + np.cross(own, own_normal)) / length
        return deviation, slope

    def away_rad(self) -> NDArray[np.float64]:  # (P,)
        """Return how far each point moves away from the epipole, radians."""
        near = np.arccos((self.epipole * self.before).sum(1).clip(-1, 1))
        far = np.arccos((self.epipole * self.after).sum(1).clip(-1, 1))
        return np.asarray(far - near)

    def is_moving(self) -> NDArray[np.bool_]:  # (P,)
        """Return the points that move enough to have a direction."""
        angle = np.linalg.norm(self.after - self.before, axis=1)
        return np.asarray(angle > _MOVING_PX * self.pixel_rad)


def fit_turn(motions: Collection[PointMotion], view: View) -> TurnFit:
    """Fit the rotation of a camera to the points of several motions.

    A vehicle whose points fit no rest of the street better rotates a camera in its own regions of
    the picture alone; a wrong calibration shows in most of them.
    """
    geometry = _place(motions, view)
    rotation, prior = np.zeros(3), np.eye(3) / _PRIOR_RAD**2
    for _ in range(_STEPS):
        information, gradient = _normal_equations(geometry.turned(_matrix(rotation)))
        step = np.linalg.solve(information + prior, gradient + prior @ rotation)
        rotation = rotation - step
        if float(np.linalg.norm(step)) < 1e-4:
            break
    moving = geometry.is_moving()
    saved = (_loss(geometry) - _loss(geometry.turned(_matrix(rotation))))[moving]
    count = math.prod(_REGIONS)
    points = np.bincount(geometry.region[moving], minlength=count)
    by_region = np.bincount(geometry.region[moving], weights=saved, minlength=count)
    judged = points >= _REGION_POINTS
    agreement = float((by_region[judged] > 0).mean()) if judged.any() else 0.0
    backward = geometry.away_rad()[moving] < -_MOVING_PX / 2 * geometry.pixel_rad
    return TurnFit(
        float(np.linalg.norm(rotation)),
        float(saved.sum()),
        agreement,
        float(backward.mean()) if len(backward) else 0.0,
    )


def score_view(motions: Collection[PointMotion], view: View) -> float:
    """Return the share of moving points that move as a view predicts, 0 to 1; 0 without points."""
    geometry = _place(motions, view)
    moving = geometry.is_moving()
    if not moving.any():
        return 0.0
    deviation, _ = geometry.deviations()
    weights = _weights(deviation, 0.5 * geometry.pixel_rad)
    return float((weights * (geometry.away_rad() > 0))[moving].mean())


def _place(motions: Collection[PointMotion], view: View) -> _Geometry:
    counts = [len(motion.before) for motion in motions]
    camera = view.ego_from_cam[:3, :3]
    center = view.ego_from_cam[:3, 3]
    pixels = np.concatenate([m.before for m in motions])
    before = _bearings(pixels, view.intrinsics) @ camera.T
    after = _bearings(np.concatenate([m.after for m in motions]), view.intrinsics) @ camera.T
    rotation = np.repeat(np.stack([m.rotation for m in motions]), counts, axis=0)
    path = np.stack([m.translation_m + m.rotation @ center - center for m in motions])
    path = path / np.linalg.norm(path, axis=1, keepdims=True).clip(1e-9)
    pixel_rad = float(1 / view.intrinsics[0, 0])
    angles = [np.linalg.norm(Rotation.from_matrix(m.rotation).as_rotvec()) for m in motions]
    shift_px = np.repeat(angles, counts) / pixel_rad
    # The principal point lies near the middle of the picture.
    cells = (pixels / view.intrinsics[:2, 2] * (np.array(_REGIONS) / 2)).astype(np.int64)
    column, row = cells.clip(0, np.array(_REGIONS) - 1).T
    return _Geometry(
        before,
        np.einsum("pij,pj->pi", rotation, after),
        rotation,
        np.repeat(path, counts, axis=0),
        column * _REGIONS[1] + row,
        pixel_rad * np.hypot(_KERNEL_PX, _TURN_SHARE * shift_px),
        pixel_rad,
    )


def _bearings(
    points: NDArray[np.float64],  # (P, 2), (0, 0) is the centre of the first pixel
    intrinsics: NDArray[np.float64],  # (3, 3), (0, 0) is the corner of the first pixel
) -> NDArray[np.float64]:  # (P, 3)
    x = (points[:, 0] + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (points[:, 1] + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.stack((x, y, np.ones_like(x)), axis=1)
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _weights(
    deviation: NDArray[np.float64],  # (P,)
    scale: float | NDArray[np.float64],
) -> NDArray[np.float64]:  # (P,)
    """Return the weights of Geman and McClure."""
    return np.asarray(1 / (1 + (deviation / scale) ** 2) ** 2)


def _loss(geometry: _Geometry) -> NDArray[np.float64]:  # (P,) 0 to 1
    """Return each point's loss of Geman and McClure."""
    squared = (geometry.deviations()[0] / geometry.scale) ** 2
    return np.asarray(squared / (1 + squared))


def _normal_equations(
    geometry: _Geometry,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # (3, 3), (3,)
    """Return the information on a rotation and the gradient."""
    deviation, slope = geometry.deviations()
    weighted = slope * (_weights(deviation, geometry.scale) / geometry.scale**2)[:, None]
    return weighted.T @ slope, weighted.T @ deviation


def _matrix(rotation: NDArray[np.float64]) -> NDArray[np.float64]:  # (3, 3)
    return np.asarray(Rotation.from_rotvec(rotation).as_matrix(), np.float64)
