"""Rigid motions: group axioms, and agreement with independent formulas."""

import math

import numpy as np
import pytest
import torch

from bevstack.geometry import (
    invert_se3,
    quaternion_from_rotation,
    rotation_from_quaternion,
    se3_from_parts,
    transform_points,
    yaw_from_rotation,
)
from bevstack.geometry.se3 import check_rigid

TIGHT = 1e-12  # float64, a few products of numbers near 1


def random_poses(*leading, seed=0):
    rng = np.random.default_rng(seed)
    quaternion = torch.from_numpy(rng.normal(size=(*leading, 4)))
    return se3_from_parts(quaternion, torch.from_numpy(rng.normal(scale=10, size=(*leading, 3))))


@pytest.mark.parametrize("leading", [(), (1,), (3, 2), (0,)])
def test_inverse_composes_to_identity(leading):
    pose = random_poses(*leading)
    identity = torch.eye(4, dtype=torch.float64).expand(*leading, 4, 4)
    torch.testing.assert_close(pose @ invert_se3(pose), identity, atol=1e-11, rtol=0)
    assert pose.shape == (*leading, 4, 4)


def test_composition_is_associative_and_acts_on_points():
    a, b = random_poses(5, seed=1), random_poses(5, seed=2)
    points = torch.from_numpy(np.random.default_rng(3).normal(size=(5, 7, 3)))
    torch.testing.assert_close(
        transform_points(a @ b, points), transform_points(a, transform_points(b, points))
    )


def test_rotation_from_a_quaternion_equals_the_sandwich_product():
    quaternion = np.random.default_rng(4).normal(size=(6, 4))
    rotation = rotation_from_quaternion(torch.from_numpy(quaternion)).numpy()
    vector = np.array([0.3, -2.0, 1.1])
    for q, matrix in zip(quaternion, rotation, strict=True):
        q = q / np.linalg.norm(q)
        w, u = q[0], q[1:]
        rotated = vector + 2 * np.cross(u, np.cross(u, vector) + w * vector)
        np.testing.assert_allclose(matrix @ vector, rotated, atol=TIGHT)


def test_quaternion_survives_a_round_trip_also_for_half_turns():
    half_turns = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0.6, -0.8, 0], [1, 0, 0, 0]]
    random = np.random.default_rng(5).normal(size=(50, 4))
    quaternion = torch.from_numpy(np.concatenate((half_turns, random)))
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    back = quaternion_from_rotation(rotation_from_quaternion(quaternion))
    sign = (back * quaternion).sum(-1, keepdim=True).sign()
    torch.testing.assert_close(back * sign, quaternion, atol=TIGHT, rtol=0)
    assert (back[:, 0] >= 0).all()


def test_yaw_is_counter_clockwise_about_z():
    angle = torch.tensor([0.0, 0.4, math.pi / 2, -3.0], dtype=torch.float64)
    zero = torch.zeros_like(angle)
    quaternion = torch.stack((torch.cos(angle / 2), zero, zero, torch.sin(angle / 2)), -1)
    torch.testing.assert_close(yaw_from_rotation(rotation_from_quaternion(quaternion)), angle)


def test_zero_quaternion_is_refused():
    with pytest.raises(ValueError, match="quaternion must be finite and of non-zero length"):
        rotation_from_quaternion(torch.zeros(2, 4))


@pytest.mark.parametrize("damage", ["nan", "scale", "mirror", "row"])
def test_an_error_names_a_matrix_that_is_no_rigid_motion(damage):
    pose = random_poses(3)
    if damage == "nan":
        pose[1, 0, 3] = math.nan
    elif damage == "scale":
        pose[1, :3, :3] *= 1.1
    elif damage == "mirror":
        pose[1, :3, 0] *= -1
    else:
        pose[1, 3, 0] = 0.5
    with pytest.raises(ValueError, match=r"ego_from_cam must be .*\[1"):
        check_rigid("ego_from_cam", pose)
    check_rigid("ego_from_cam", random_poses(3))


def test_a_mirrored_pose_is_named_as_left_handed() -> None:
    mirror = torch.diag(torch.tensor((1.0, -1.0, 1.0, 1.0), dtype=torch.float64))
    for poses, place in (
        (random_poses(3) @ mirror, r" in entry \[0\]"),
        (mirror, r"\(determinant -1\):"),
    ):
        with pytest.raises(ValueError, match=r"pose must be right-handed .*left-handed.*" + place):
            check_rigid("pose", poses)
    scaled = torch.eye(4, dtype=torch.float64)
    scaled[0, 0] = 1.5
    with pytest.raises(ValueError, match=r"rigid motion .*; got a rotation error of 1.25: check"):
        check_rigid("pose", scaled)
