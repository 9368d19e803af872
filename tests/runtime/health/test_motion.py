"""Rotations and exchanges of cameras, found from projected points and from rendered drives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bevstack.runtime.health.motion import PointMotion, View, fit_turn, score_view, track_points
from tests.runtime.health.frames import ego_from_cam

INTRINSICS = np.array([[200.0, 0, 128], [0, 200.0, 72], [0, 0, 1]])
SIZE = (144, 256)


def project(points: np.ndarray, cam_from_world: np.ndarray) -> np.ndarray:  # (P, 2)
    """Return pixel coordinates of world points, (0, 0) the centre of the first pixel.

    Points behind the camera are not a number.
    """
    x, y, z = (np.c_[points, np.ones(len(points))] @ cam_from_world.T).T[:3]
    z = np.where(z < 0.5, np.nan, z)
    columns = INTRINSICS[0, 0] * x / z + INTRINSICS[0, 2] - 0.5
    return np.stack((columns, INTRINSICS[1, 1] * y / z + INTRINSICS[1, 2] - 0.5), 1)


def ego_pose(x_m: float, yaw_rad: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", yaw_rad).as_matrix()
    pose[0, 3] = x_m
    return pose


def turned(camera: np.ndarray, axis: str, degrees: float) -> np.ndarray:
    """Return the pose of a camera that is turned about an axis of its own."""
    pose = camera.copy()
    pose[:3, :3] = camera[:3, :3] @ Rotation.from_euler(axis, math.radians(degrees)).as_matrix()
    return pose


def drive(camera: np.ndarray, turn_rad: float = 0.01, moving: float = 0.0) -> list[PointMotion]:
    """Return the motions of random points around a drive of 0.7 m a pair, with 0.1 px of noise.

    Args:
        camera: the true pose of the camera in the ego frame.
        turn_rad: yaw of the vehicle from picture to picture.
        moving: share of points that drive across the road.
    """
    rng = np.random.default_rng(3)
    motions = []
    for pair in range(8):
        poses = ego_pose(5.0 * pair, 0.0), ego_pose(5.0 * pair + 0.7, turn_rad)
        cameras = [np.linalg.inv(pose @ camera) for pose in poses]
        points = rng.uniform((-40 + 5 * pair, -40, 0), (40 + 5 * pair, 40, 8), (2000, 3))
        shift = (rng.random((2000, 1)) < moving) * (0.0, 0.8, 0.0)
        pixels = np.stack((project(points, cameras[0]), project(points + shift, cameras[1])))
        inside = ((pixels > 0) & (pixels < SIZE[::-1])).all((0, 2))
        pixels = pixels[:, inside] + rng.normal(0, 0.1, (2, inside.sum(), 2))
        between = np.linalg.inv(poses[0]) @ poses[1]
        motions.append(PointMotion(pixels[0], pixels[1], between[:3, :3], between[:3, 3]))
    return motions


@pytest.mark.parametrize("yaw_deg", [0.0, 55.0, 110.0, 180.0])
def test_a_true_calibration_needs_no_rotation(yaw_deg):
    camera = ego_from_cam(math.radians(yaw_deg))
    fit = fit_turn(drive(camera), View(INTRINSICS, camera))
    # Three parameters that fit noise alone save 1.5 points on average, a half for each.
    assert fit.gain < 4.0 and fit.backward == 0.0
    assert score_view(drive(camera), View(INTRINSICS, camera)) > 0.8


@pytest.mark.parametrize("yaw_deg", [0.0, 55.0, 110.0, 180.0])
@pytest.mark.parametrize("degrees", [3.0, -5.0])
def test_a_turned_camera_is_found_with_its_angle(yaw_deg, degrees):
    """Turn about the vertical axis, which is visible in every direction."""
    camera = ego_from_cam(math.radians(yaw_deg))
    fit = fit_turn(drive(camera), View(INTRINSICS, turned(camera, "y", degrees)))
    assert math.degrees(fit.angle_rad) == pytest.approx(
        abs(degrees), abs=1.0
    )  # and what stays hidden
    assert fit.gain > 10.0 and fit.agreement > 0.7


def test_crossing_traffic_does_not_turn_a_camera():
    camera = ego_from_cam(math.radians(55.0))
    fit = fit_turn(drive(camera, moving=0.25), View(INTRINSICS, camera))
    assert fit.gain < 4.0


def test_points_that_overtake_are_counted():
    """Exchange the two pictures of each pair for the points of the left half."""
    camera = ego_from_cam(math.radians(90.0))
    motions = []
    for motion in drive(camera, turn_rad=0.0):
        swap = (motion.before[:, :1] < SIZE[1] / 2) & (motion.after[:, :1] < SIZE[1] / 2)
        before, after = np.where(swap, (motion.after, motion.before), (motion.before, motion.after))
        motions.append(PointMotion(before, after, motion.rotation, motion.translation_m))
    fit = fit_turn(motions, View(INTRINSICS, camera))
    assert fit.backward == pytest.approx(0.45, abs=0.1)


def test_a_vehicle_in_one_part_of_the_picture_turns_no_camera():
    """Let almost half of the points lie on a vehicle that moves as if the camera were turned."""
    camera = ego_from_cam(math.radians(55.0))
    street, vehicle = drive(camera), drive(turned(camera, "x", 4.0))
    motions = []
    for still, moving in zip(street, vehicle, strict=True):
        left = np.flatnonzero(still.before[:, 0] < 0.75 * SIZE[1])[::3]
        right = np.flatnonzero(moving.before[:, 0] >= 0.75 * SIZE[1])
        before = np.concatenate((still.before[left], moving.before[right]))
        after = np.concatenate((still.after[left], moving.after[right]))
        motions.append(PointMotion(before, after, still.rotation, still.translation_m))
    fit = fit_turn(motions, View(INTRINSICS, camera))
    assert fit.gain > 10.0 and fit.agreement <= 0.5


@pytest.mark.parametrize(("yaw_deg", "other_deg"), [(0, 180), (55, -55), (110, 55), (-110, 0)])
def test_points_fit_the_own_calibration_and_none_of_another_camera(yaw_deg, other_deg):
    camera, other = (ego_from_cam(math.radians(angle)) for angle in (yaw_deg, other_deg))
    motions = drive(camera)
    own, wrong = (score_view(motions, View(INTRINSICS, view)) for view in (camera, other))
    assert own > 0.8 and wrong < own - 0.4


def test_points_are_tracked_over_a_known_shift():
    rng = np.random.default_rng(0)
    import cv2

    picture = cv2.GaussianBlur(rng.integers(0, 256, SIZE, np.uint8), (0, 0), 1.5)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    before, after = track_points(picture, np.roll(picture, (2, 5), (0, 1)))
    inner = (before > 20).all(1) & (before < np.array(SIZE[::-1]) - 25).all(1)
    assert inner.sum() > 20
    # whole pixels, so that only the stop criterion of the tracker errs
    np.testing.assert_allclose(
        (after - before)[inner], np.tile([5.0, 2.0], (inner.sum(), 1)), atol=0.05
    )


def test_a_picture_without_corners_has_no_points():
    flat = np.full(SIZE, 90, np.uint8)
    before, after = track_points(flat, flat)
    assert before.shape == after.shape == (0, 2)
