from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bevstack.geometry import rotation_from_quaternion
from bevstack.types.perspective import (
    CAMERA_CORNER_SIGNS,
    CameraAnnotations,
    CameraBoxes,
    pixel_rays,
    rotate,
)


def some_boxes(*leading: int) -> CameraBoxes:
    intrinsics = torch.tensor(((50.0, 1.0, 30.0), (0.0, 60.0, 20.0), (0.0, 0.0, 1.0)))
    return CameraBoxes(
        torch.nn.functional.normalize(torch.randn(*leading, 4), dim=-1),
        torch.rand(*leading, 2) * 40,
        torch.rand(*leading) * 9 + 1,
        torch.rand(*leading, 3) * 3,
        torch.linalg.inv(intrinsics).expand(*leading, 3, 3),
    )


def test_the_centre_projects_to_its_pixel_and_depth() -> None:
    boxes = some_boxes(2, 5)
    projected = torch.linalg.inv(boxes.cam_from_image) @ boxes.centers()[..., None]
    torch.testing.assert_close(projected[..., 2, 0], boxes.depth_m)
    uv = projected[..., :2, 0] / projected[..., 2:, 0]
    torch.testing.assert_close(uv, boxes.projected_center_px, rtol=1e-4, atol=1e-4)


def test_corners_equal_loops_over_boxes_and_signs() -> None:
    boxes = some_boxes(6)
    corners = boxes.corners()
    for m in range(6):
        matrix = rotation_from_quaternion(boxes.quaternion[m])
        for c, signs in enumerate(CAMERA_CORNER_SIGNS):
            half = torch.stack([boxes.size_m[m, a] / 2 * signs[a] for a in range(3)])
            torch.testing.assert_close(corners[m, c], matrix @ half + boxes.centers()[m])


def test_first_four_corners_are_the_front_face() -> None:
    """Place a car that drives away: its x is the camera's z, its y is -x, its z is -y."""
    away = torch.tensor(((0.0, -1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)))
    boxes = some_boxes(1)
    boxes = replace(boxes, quaternion=torch.tensor([[0.5, 0.5, -0.5, 0.5]]))
    torch.testing.assert_close(rotation_from_quaternion(boxes.quaternion[0]), away)
    offset = (boxes.corners() - boxes.centers()[:, None])[0]
    length, width, height = (boxes.size_m[0] / 2).tolist()
    left_top = torch.tensor((-width, -height, length))
    torch.testing.assert_close(offset[0], left_top, rtol=1e-5, atol=1e-5)
    assert (offset[:4, 2] > 0).all() and (offset[4:, 2] < 0).all()


def test_rotating_by_a_quaternion_equals_its_matrix_and_broadcasts() -> None:
    quaternion = torch.nn.functional.normalize(torch.randn(3, 1, 4).double(), dim=-1)
    vectors = torch.randn(5, 3).double()
    expected = torch.einsum("aij,bj->abi", rotation_from_quaternion(quaternion[:, 0]), vectors)
    torch.testing.assert_close(rotate(quaternion, vectors), expected)


def test_rays_keep_full_precision_under_autocast() -> None:
    boxes = some_boxes(4)
    expected = boxes.rays()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pixel_rays(boxes.projected_center_px, boxes.cam_from_image), expected)


def test_annotations_select_and_check_their_shapes() -> None:
    empty = CameraAnnotations.empty()
    assert len(empty) == 0 and len(empty.to("cpu")) == 0
    annotations = CameraAnnotations(
        torch.rand(3, 4),
        torch.arange(3),
        torch.rand(3, 4),
        torch.rand(3, 3),
        torch.rand(3, 3),
        torch.arange(3),
        torch.rand(3),
    )
    selected = annotations[torch.tensor((True, False, True))]
    assert len(selected) == 2 and selected.labels.tolist() == [0, 2]
    assert torch.equal(selected.size_m, annotations.size_m[[0, 2]])
    with pytest.raises(ValueError, match=r"speed_mps must have shape \(A=3\); got \(2,\)"):
        replace(annotations, speed_mps=torch.rand(2))
    with pytest.raises(ValueError, match=r"depth_m must have shape \(3\); got \(3, 1\)"):
        replace(some_boxes(3), depth_m=torch.rand(3, 1))


def test_boxes_select_along_leading_axes() -> None:
    boxes = some_boxes(2, 5)
    assert len(boxes) == 2
    index = (torch.tensor((1, 0)), torch.tensor((4, 2)))
    assert torch.equal(
        boxes[index].depth_m, torch.stack((boxes.depth_m[1, 4], boxes.depth_m[0, 2]))
    )
    assert boxes[1].quaternion.shape == (5, 4)
