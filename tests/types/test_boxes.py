"""3D boxes: corners, transforms between frames, selection and concatenation."""

import math

import numpy as np
import pytest
import torch

from bevstack.types import Boxes3D
from bevstack.types.boxes import wrap_angle
from tests.geometry.test_se3 import random_poses


def make_boxes(count=5, seed=0):
    rng = np.random.default_rng(seed)
    return Boxes3D(
        torch.from_numpy(rng.normal(scale=20, size=(count, 3))),
        torch.from_numpy(rng.uniform(0.5, 9, size=(count, 3))),
        torch.from_numpy(rng.uniform(-math.pi, math.pi, size=count)),
        torch.from_numpy(rng.normal(size=(count, 2))),
    )


def test_corners_of_one_box_by_hand():
    boxes = Boxes3D(
        torch.tensor([[10.0, 5.0, 1.0]]),
        torch.tensor([[4.0, 2.0, 1.0]]),
        torch.tensor([math.pi / 2]),
        torch.zeros(1, 2),
    )
    corners = boxes.corners()[0]
    # heading +y: the front is at y = 7, the left side at x = 9
    expected = torch.tensor([[9, 7, 0.5], [9, 3, 0.5], [11, 3, 0.5], [11, 7, 0.5]])
    torch.testing.assert_close(corners[:4], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(corners[4:, 2], torch.full((4,), 1.5))


def test_corners_move_with_the_box():
    yaw = 0.7
    motion = random_poses(1)[0]
    cos, sin = math.cos(yaw), math.sin(yaw)
    motion[:3, :3] = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]).double()
    boxes = make_boxes()
    moved = boxes.transformed(motion).corners()
    expected = boxes.corners() @ motion[:3, :3].T + motion[:3, 3]
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(
        boxes.transformed(motion).velocity, boxes.velocity @ motion[:2, :2].T
    )


def test_a_transform_and_its_inverse_restore_the_box():
    boxes = make_boxes()
    motion = torch.eye(4, dtype=torch.float64)
    motion[:2, :2] = torch.tensor([[0.0, -1], [1, 0]])
    motion[:3, 3] = torch.tensor([5.0, -3, 2])
    back = boxes.transformed(motion).transformed(torch.linalg.inv(motion))
    torch.testing.assert_close(back.center, boxes.center)
    torch.testing.assert_close(wrap_angle(back.yaw - boxes.yaw), torch.zeros(5).double())


def test_empty_boxes_have_corners_and_can_be_concatenated():
    assert Boxes3D.empty().corners().shape == (0, 8, 3)
    both = Boxes3D.concatenate([make_boxes(2), make_boxes(3, seed=1)])
    assert len(both) == 5
    assert torch.equal(both[2:].yaw, make_boxes(3, seed=1).yaw)
    assert len(Boxes3D.concatenate([])) == 0


def test_angles_wrap_to_the_half_open_range_of_one_turn():
    angles = torch.tensor([math.pi, -math.pi, 3 * math.pi, 0.5, -7.0])
    expected = [-math.pi, -math.pi, -math.pi, 0.5, -7 + 2 * math.pi]
    torch.testing.assert_close(wrap_angle(angles), torch.tensor(expected), atol=1e-5, rtol=0)


def test_an_error_names_a_size_of_the_wrong_shape():
    with pytest.raises(ValueError, match=r"size must have shape \(2, 3\); got \(1, 3\)"):
        Boxes3D(torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(2), torch.zeros(2, 2))
