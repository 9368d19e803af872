"""Lifting of 2D boxes, compared with loops from the formula on hand-made cameras."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.evaluation.baselines.lifting import (
    ClassPriors,
    ImageBoxes,
    class_priors,
    intersect_ground,
    lift_boxes,
)
from bevstack.tables.reader import Tables
from bevstack.vocabulary import DETECTION_CLASSES
from tests.tables.tiny_root import VERSION, quaternion

PRIORS = ClassPriors(
    size_m=torch.tensor(((4.0, 1.8, 1.6), (0.8, 0.6, 1.7)), dtype=torch.float64),
    yaw_rad=torch.tensor((0.3, -2.0), dtype=torch.float64),
)
# yaw, pitch and roll in degrees, position, focal lengths, principal point of two cameras of one rig
CAMERAS = (
    ((5.0, 1.5, -0.7), (1.7, 0.1, 1.5), (310.0, 305.0), (203.0, 110.0)),
    ((-50.0, -2.0, 0.4), (1.2, -0.6, 1.9), (290.0, 295.0), (190.0, 118.0)),
)


def rig() -> tuple[torch.Tensor, torch.Tensor]:
    rotation_class = pytest.importorskip("pyquaternion").Quaternion
    intrinsics, poses = torch.zeros(2, 3, 3), torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    axes = np.array(((0.0, 0, 1), (-1, 0, 0), (0, -1, 0)))  # columns: x right, y down, z ahead
    for n, (angles, position, focal, centre) in enumerate(CAMERAS):
        turn = rotation_class(quaternion(*map(math.radians, angles))).rotation_matrix
        poses[n, :3, :3] = torch.from_numpy(turn @ axes)
        poses[n, :3, 3] = torch.tensor(position)
        intrinsics[n] = torch.tensor(
            ((focal[0], 0, centre[0]), (0, focal[1], centre[1]), (0, 0, 1))
        )
    return intrinsics.double(), poses


def project(camera: int, point: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return (u, v, depth) of a point of the ego frame, one number at a time."""
    intrinsics, poses = rig()
    offset = [point[i] - float(poses[camera, i, 3]) for i in range(3)]
    in_cam = [sum(float(poses[camera, i, j]) * offset[i] for i in range(3)) for j in range(3)]
    u = float(intrinsics[camera, 0, 0]) * in_cam[0] / in_cam[2] + float(intrinsics[camera, 0, 2])
    v = float(intrinsics[camera, 1, 1]) * in_cam[1] / in_cam[2] + float(intrinsics[camera, 1, 2])
    return u, v, in_cam[2]


def boxes_touching(
    ground: list[tuple[int, int, float, float]], scores: list[float] | None = None
) -> ImageBoxes:
    """Return 2D boxes whose lower middle shows points of the ground: (camera, label, x, y)."""
    sides = []
    for camera, _, x, y in ground:
        u, v, depth = project(camera, (x, y, 0.0))
        assert depth > 0
        sides.append((u - 7.0, v - 20.0, u + 7.0, v))
    return ImageBoxes(
        boxes_px=torch.tensor(sides, dtype=torch.float64),
        labels=torch.tensor([label for _, label, _, _ in ground]),
        cameras=torch.tensor([camera for camera, _, _, _ in ground]),
        scores=None if scores is None else torch.tensor(scores),
    )


def lift(image_boxes: ImageBoxes, **options: bool):
    intrinsics, poses = rig()
    return lift_boxes(image_boxes, PRIORS, intrinsics=intrinsics, ego_from_cam=poses, **options)


def test_points_of_the_ground_come_back() -> None:
    wanted = [(0, 0, 12.0, 2.0), (0, 1, 33.0, -4.0), (1, 0, 9.0, -10.0)]
    lifted = lift(boxes_touching(wanted))
    assert lifted.labels.tolist() == [0, 0, 1]  # the nearest first
    for row, number in enumerate((0, 2, 1)):
        _, label, x, y = wanted[number]
        height = float(PRIORS.size_m[label, 2])
        assert lifted.boxes.center[row].tolist() == pytest.approx([x, y, height / 2], abs=1e-6)
        assert lifted.boxes.size[row].tolist() == PRIORS.size_m[label].tolist()
        assert float(lifted.boxes.yaw[row]) == float(PRIORS.yaw_rad[label])
        assert float(lifted.scores[row]) == pytest.approx(1 / math.hypot(x, y))
    assert not lifted.boxes.velocity.any()


def test_a_ray_that_does_not_point_down_meets_no_ground() -> None:
    intrinsics, poses = rig()
    pixels = torch.tensor(((203.0, 10.0), (203.0, 200.0)))
    points = intersect_ground(pixels, intrinsics[[0, 0]], poses[[0, 0]])
    assert torch.isnan(points[0]).all() and torch.isfinite(points[1]).all()
    below = poses[:1].clone()
    below[0, 2, 3] = -0.5  # the camera is below the ground
    assert torch.isnan(intersect_ground(pixels[1:], intrinsics[:1], below)).all()
    sides = torch.cat((pixels - 5, pixels + torch.tensor((5.0, 0.0))), -1)
    zeros = torch.zeros(2, dtype=torch.int64)
    assert len(lift(ImageBoxes(boxes_px=sides, labels=zeros, cameras=zeros))) == 1


def test_no_image_box_gives_no_lifted_box() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    assert len(lift(ImageBoxes(boxes_px=torch.zeros(0, 4), labels=empty, cameras=empty))) == 0


@pytest.mark.parametrize("label", [0, 1])
def test_with_contact_at_the_near_edge_the_near_side_meets_the_ground_point(label: int) -> None:
    """Check that the nearest corner along the ray is as far away as the ground contact."""
    _, poses = rig()
    for camera, x, y in ((0, 12.0, 2.0), (1, 8.0, -11.0)):
        (box,) = (lift(boxes_touching([(camera, label, x, y)]), contact_at_near_edge=True).boxes,)
        origin = poses[camera, :2, 3]
        view = torch.tensor((x, y), dtype=torch.float64) - origin
        reach = view.norm()
        view = view / reach
        depths = (box.corners()[0, :, :2] - origin) @ view
        assert float(depths.min()) == pytest.approx(float(reach), abs=1e-6)
        offset = box.center[0, :2] - origin
        assert float(offset[0] * view[1] - offset[1] * view[0]) == pytest.approx(0, abs=1e-6)


def test_near_boxes_of_two_cameras_are_one_object_and_those_of_one_camera_are_two() -> None:
    ground = [
        (0, 0, 12.0, -6.0),  # the same car from both cameras: distance 1 m
        (1, 0, 12.0, -7.0),
        (0, 1, 15.0, -8.0),  # two pedestrians side by side, from one camera
        (0, 1, 15.0, -8.5),
        (1, 1, 15.0, -8.2),  # one of them from the second camera
        (1, 0, 15.0, -8.0),  # a car at the pedestrians' position, 3.2 m from the other cars
    ]
    lifted = lift(boxes_touching(ground, [0.5, 0.9, 0.8, 0.7, 0.6, 0.4]))
    assert lifted.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.4])
    assert lifted.labels.tolist() == [0, 1, 1, 0]


def test_a_broken_calibration_is_refused() -> None:
    intrinsics, poses = rig()
    poses[1, 0, 0] = 3.0
    with pytest.raises(ValueError, match=r"ego_from_cam must be a rigid motion"):
        none = torch.zeros(0, dtype=torch.int64)
        empty = ImageBoxes(boxes_px=torch.zeros(0, 4), labels=none, cameras=none)
        lift_boxes(empty, PRIORS, intrinsics=intrinsics, ego_from_cam=poses)


def test_priors_are_the_classes_means_and_headings(root: Path) -> None:
    """Compute the priors from the tables, box by box, in the ego frame of its sample."""
    rotation_class = pytest.importorskip("pyquaternion").Quaternion
    tables = Tables(root, VERSION)
    priors = class_priors(tables, "mini_val")
    label = DETECTION_CLASSES.index("car")
    yaws, sizes = [], []
    for row in range(len(tables.annotations.token)):
        if tables.annotations.category[row] != "vehicle.car":
            continue
        keyframe = tables.reference_keyframes(np.array([tables.annotations.sample[row]]))[0]
        ego = rotation_class(tables.keyframes.rotation[keyframe])
        axis = (ego.inverse * rotation_class(tables.annotations.rotation[row])).rotate((1, 0, 0))
        yaws.append(math.atan2(axis[1], axis[0]))
        sizes.append(tables.annotations.size[row][[1, 0, 2]])
    assert priors.size_m[label].tolist() == pytest.approx(np.mean(sizes, 0).tolist())

    def mean_difference(yaw: float) -> float:
        return float(np.mean([abs((yaw - y + math.pi) % (2 * math.pi) - math.pi) for y in yaws]))

    best = min(mean_difference(math.radians(5 * k)) for k in range(72))
    assert mean_difference(float(priors.yaw_rad[label])) == pytest.approx(best)
    assert (
        priors.size_m[DETECTION_CLASSES.index("truck")].tolist() == [1.0] * 3
    )  # the scenes have no truck
    selected = priors.select_classes(("truck", "car"))
    assert torch.equal(selected.size_m[1], priors.size_m[label]) and len(selected.yaw_rad) == 2
