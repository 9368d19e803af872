"""Rigs, compared with nuScenes' table and with pyquaternion."""

import numpy as np
import pytest

from bevstack.synthetic.rig import (
    make_rig,
    multiply_quaternions,
    quaternion_to_matrix,
    yaw_to_quaternion,
)
from bevstack.vocabulary import CAMERA_CHANNELS

# Yaw of the optical axis in the ego frame, degrees, of both cars (as measured on the real tables).
YAW_DEG = {
    "n015": (0.3, -56.4, 55.2, 179.9, 108.6, -110.8),
    "n008": (0.6, -57.6, 55.3, 179.5, 108.6, -112.5),
}


@pytest.mark.parametrize("vehicle", YAW_DEG)
def test_nominal_cameras_point_in_the_directions_of_the_real_ones(vehicle):
    rig = make_rig(vehicle, (900, 1600), None)
    assert tuple(c.channel for c in rig.cameras) == CAMERA_CHANNELS
    for camera, yaw in zip(rig.cameras, YAW_DEG[vehicle], strict=True):
        axis = camera.ego_from_cam_rotation[:, 2]
        assert np.rad2deg(np.arctan2(axis[1], axis[0])) == pytest.approx(yaw, abs=0.1)
        assert abs(np.rad2deg(np.arcsin(axis[2]))) < 1.3
        assert camera.ego_from_cam_rotation[2, 1] < -0.99  # image y points down
    right = rig.lidar.ego_from_lidar_rotation[:, 0]
    np.testing.assert_allclose(right, [0, -1, 0], atol=0.05)


def test_quaternions_equal_pyquaternion():
    from pyquaternion import Quaternion

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=4), rng.normal(size=4)
        np.testing.assert_allclose(
            quaternion_to_matrix(a), Quaternion(a).rotation_matrix, atol=1e-12
        )
        product = multiply_quaternions(tuple(a), tuple(b))
        np.testing.assert_allclose(product, (Quaternion(a) * Quaternion(b)).elements, atol=1e-12)
        yaw = float(rng.uniform(-3, 3))
        wanted = Quaternion(axis=[0, 0, 1], radians=yaw).elements
        np.testing.assert_allclose(yaw_to_quaternion(yaw), wanted, atol=1e-12)


def test_intrinsics_scale_with_the_image():
    full = make_rig("n008", (900, 1600), None)
    small = make_rig("n008", (225, 400), None)
    for a, b in zip(full.cameras, small.cameras, strict=True):
        np.testing.assert_allclose(b.intrinsics[:2] * 4, a.intrinsics[:2])


def test_jitter_stays_in_its_bounds_and_moves_everything():
    nominal = make_rig("n015", (900, 1600), None)
    drawn = [make_rig("n015", (900, 1600), np.random.default_rng(i)) for i in range(60)]
    for number, camera in enumerate(nominal.cameras):
        same = [rig.cameras[number] for rig in drawn]
        focal = np.array([c.intrinsics[0, 0] for c in same]) / camera.intrinsics[0, 0] - 1
        centre = np.array([c.intrinsics[:2, 2] for c in same]) - camera.intrinsics[:2, 2]
        moved = np.array([c.ego_from_cam_translation_m for c in same])
        moved -= camera.ego_from_cam_translation_m
        axis = np.array([c.ego_from_cam_rotation[:, 2] for c in same])
        angle = np.rad2deg(np.arccos(np.clip(axis @ camera.ego_from_cam_rotation[:, 2], -1, 1)))
        assert 0.007 < np.abs(focal).max() <= 0.01
        assert 11 < np.abs(centre).max() <= 15
        assert 0.02 < np.abs(moved).max() <= 0.03
        assert 0.8 < angle.max() <= np.sqrt(2) + 1e-6  # a degree of yaw and one of pitch
        for c in same:
            np.testing.assert_allclose(
                quaternion_to_matrix(c.quaternion_wxyz), c.ego_from_cam_rotation
            )


@pytest.mark.parametrize("seed", [None, 3])
def test_extra_yaw_rotates_cameras_about_their_centres(seed):
    from pyquaternion import Quaternion

    def rig(**options):
        rng = None if seed is None else np.random.default_rng(seed)
        return make_rig("n008", (225, 400), rng, **options)

    turn = Quaternion(axis=[0, 0, 1], degrees=2.0)
    for straight, turned in zip(rig().cameras, rig(camera_yaw_deg=2.0).cameras, strict=True):
        wanted = turn.rotation_matrix @ straight.ego_from_cam_rotation
        np.testing.assert_allclose(turned.ego_from_cam_rotation, wanted, atol=1e-12)
        wanted = (turn * Quaternion(straight.quaternion_wxyz)).elements
        np.testing.assert_allclose(turned.quaternion_wxyz, wanted, atol=1e-12)
        assert np.array_equal(
            turned.ego_from_cam_translation_m, straight.ego_from_cam_translation_m
        )
        assert np.array_equal(turned.intrinsics, straight.intrinsics)
    assert np.array_equal(
        rig().lidar.quaternion_wxyz, rig(camera_yaw_deg=2.0).lidar.quaternion_wxyz
    )


def test_unknown_vehicle_is_refused():
    with pytest.raises(ValueError, match="vehicle must be 'n015' or 'n008'; got 'kitti'"):
        make_rig("kitti", (900, 1600), None)
