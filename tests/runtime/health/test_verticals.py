"""Upright edges show the roll of a camera; edges of the road do not."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bevstack.runtime.health.motion import View
from bevstack.runtime.health.verticals import REACH_DEG, fit_tilt, upright_edges
from tests.runtime.health.frames import ego_from_cam

HEIGHT, WIDTH = 144, 256
INTRINSICS = np.array([[200.0, 0, 128], [0, 200.0, 72], [0, 0, 1]])


def poles(camera: np.ndarray) -> np.ndarray:
    """Draw upright poles of 6 m around the vehicle, as a camera sees them."""
    picture = np.full((HEIGHT, WIDTH), 180, np.uint8)
    cam_from_ego = np.linalg.inv(camera)
    for bearing in np.radians(np.arange(0, 360, 5)):
        foot = np.array([15 * math.cos(bearing), 15 * math.sin(bearing), 0.0, 1.0])
        ends = [cam_from_ego @ foot, cam_from_ego @ (foot + np.array([0, 0, 6, 0]))]
        if min(end[2] for end in ends) < 1.0:
            continue
        pixels = [INTRINSICS @ (end[:3] / end[2]) for end in ends]
        start, end = (tuple(round(16 * v) for v in p[:2]) for p in pixels)
        cv2.line(picture, start, end, 40, 3, cv2.LINE_AA, shift=4)
    return picture


def rolled(camera: np.ndarray, degrees: float) -> np.ndarray:
    pose = camera.copy()
    pose[:3, :3] = camera[:3, :3] @ Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return pose


@pytest.mark.parametrize("yaw_deg", [0.0, 55.0, 180.0])
@pytest.mark.parametrize("degrees", [0.0, 3.0, -4.0])
def test_the_roll_of_a_calibration_is_found(yaw_deg, degrees):
    camera = ego_from_cam(math.radians(yaw_deg))
    view = View(INTRINSICS, rolled(camera, degrees))
    tilt = fit_tilt([upright_edges(poles(camera), view)] * 3)
    assert tilt.angle_deg == pytest.approx(degrees, abs=1.0)  # bins of one degree
    assert tilt.edges > 100
    assert tilt.prominence > 3.0 if degrees else tilt.prominence < 1.5


def test_a_camera_that_is_truly_rolled_fits_its_calibration():
    camera = rolled(ego_from_cam(0.0), 5.0)
    tilt = fit_tilt([upright_edges(poles(camera), View(INTRINSICS, camera))])
    assert abs(tilt.angle_deg) <= 1.0


def test_edges_below_the_horizon_are_not_counted():
    picture = np.full((HEIGHT, WIDTH), 180, np.uint8)
    cv2.line(picture, (100, 90), (110, 143), 40, 3)
    counts = upright_edges(picture, View(INTRINSICS, ego_from_cam(0.0)))
    assert counts.shape == (2 * REACH_DEG + 1,) and counts.sum() == 0
