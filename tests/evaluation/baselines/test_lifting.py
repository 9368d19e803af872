"""Lifting against loops from the formula, on cameras made by hand."""

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
    lift_boxes,
    stand_on_ground,
)
from bevstack.tables.reader import Tables
from bevstack.vocabulary import DETECTION_CLASSES
from tests.tables.tiny_root import VERSION, quaternion

PRIORS = ClassPriors(
    size_m=torch.tensor(((4.0, 1.8, 1.6), (0.8, 0.6, 1.7)), dtype=torch.float64),
    yaw_rad=torch.tensor((0.3, -2.0), dtype=torch.float64),
)
# yaw, pitch and roll of two cameras of one rig in degrees, where they stand, focal lengths, centre
CAMERAS = (
    ((5.0, 1.5, -0.7), (1.7, 0.1, 1.5), (310.0, 305.0), (203.0, 110.0)),
    ((-50.0, -2.0, 0.4), (1.2, -0.6, 1.9), (290.0, 295.0), (190.0, 118.0)),
)


def rig() -> tuple[torch.Tensor, torch.Tensor]:
    rotation_class = pytest.importorskip("pyquaternion").Quaternion
    intrinsics, poses = torch.zeros(2, 3, 3), torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    axes = np.array(((0.0, 0, 1), (-1, 0, 0), (0, -1, 0)))  # columns: x right, y down, z ahead
    for n, (angles, place, focal, centre) in enumerate(CAMERAS):
        turn = rotation_class(quaternion(*map(math.radians, angles))).rotation_matrix
        poses[n, :3, :3] = torch.from_numpy(turn @ axes)
        poses[n, :3, 3] = torch.tensor(place)
        intrinsics[n] = torch.tensor(
            ((focal[0], 0, centre[0]), (0, focal[1], centre[1]), (0, 0, 1))
        )
    return intrinsics.double(), poses


def project(camera: int, point: tuple[float, float, float]) -> tuple[float, float, float]:
    """(u, v, depth) of a point of the ego frame, one number at a time."""
    intrinsics, poses = rig()
    offset = [point[i] - float(poses[camera, i, 3]) for i in range(3)]
    in_cam = [sum(float(poses[camera, i, j]) * offset[i] for i in range(3)) for j in range(3)]
    u = float(intrinsics[camera, 0, 0]) * in_cam[0] / in_cam[2] + float(intrinsics[camera, 0, 2])
    v = float(intrinsics[camera, 1, 1]) * in_cam[1] / in_cam[2] + float(intrinsics[camera, 1, 2])
    return u, v, in_cam[2]


def boxes_touching(
    ground: list[tuple[int, int, float, float]], scores: list[float] | None = None
) -> ImageBoxes:
    """Rectangles whose lower middle shows points of the ground: (camera, label, x, y)."""
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


def lift(found: ImageBoxes, **options: bool):
    intrinsics, poses = rig()
    return lift_boxes(found, PRIORS, intrinsics=intrinsics, ego_from_cam=poses, **options)


def test_points_of_the_ground_come_back() -> None:
    wanted = [(0, 0, 12.0, 2.0), (0, 1, 33.0, -4.0), (1, 0, 9.0, -10.0)]
    found = lift(boxes_touching(wanted))
    assert found.labels.tolist() == [0, 0, 1]  # the nearest first
    for row, number in enumerate((0, 2, 1)):
        _, label, x, y = wanted[number]
        height = float(PRIORS.size_m[label, 2])
        assert found.boxes.center[row].tolist() == pytest.approx([x, y, height / 2], abs=1e-6)
        assert found.boxes.size[row].tolist() == PRIORS.size_m[label].tolist()
        assert float(found.boxes.yaw[row]) == float(PRIORS.yaw_rad[label])
        assert float(found.scores[row]) == pytest.approx(1 / math.hypot(x, y))
    assert not found.boxes.velocity.any()


def test_a_ray_that_does_not_fall_meets_no_ground() -> None:
    intrinsics, poses = rig()
    pixels = torch.tensor(((203.0, 10.0), (203.0, 200.0)))
    place = stand_on_ground(pixels, intrinsics[[0, 0]], poses[[0, 0]])
    assert torch.isnan(place[0]).all() and torch.isfinite(place[1]).all()
    below = poses[:1].clone()
    below[0, 2, 3] = -0.5  # a camera under the ground sees none of it
    assert torch.isnan(stand_on_ground(pixels[1:], intrinsics[:1], below)).all()
    sides = torch.cat((pixels - 5, pixels + torch.tensor((5.0, 0.0))), -1)
    zeros = torch.zeros(2, dtype=torch.int64)
    assert len(lift(ImageBoxes(boxes_px=sides, labels=zeros, cameras=zeros))) == 1


def test_nothing_seen_is_nothing_lifted() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert len(lift(ImageBoxes(boxes_px=torch.zeros(0, 4), labels=none, cameras=none))) == 0


@pytest.mark.parametrize("label", [0, 1])
def test_behind_its_edge_a_box_touches_the_ray_with_its_near_side(label: int) -> None:
    """The corner nearest along the line of sight is as far as what was seen."""
    _, poses = rig()
    for camera, x, y in ((0, 12.0, 2.0), (1, 8.0, -11.0)):
        (box,) = (lift(boxes_touching([(camera, label, x, y)]), behind_edge=True).boxes,)
        origin = poses[camera, :2, 3]
        view = torch.tensor((x, y), dtype=torch.float64) - origin
        reach = view.norm()
        view = view / reach
        along = (box.corners()[0, :, :2] - origin) @ view
        assert float(along.min()) == pytest.approx(float(reach), abs=1e-6)
        middle = box.center[0, :2] - origin
        assert float(middle[0] * view[1] - middle[1] * view[0]) == pytest.approx(0, abs=1e-6)


def test_what_two_cameras_see_is_one_object_and_what_one_sees_are_two() -> None:
    seen = [
        (0, 0, 12.0, -6.0),  # the same car from both: 1 m apart
        (1, 0, 12.0, -7.0),
        (0, 1, 15.0, -8.0),  # two walkers side by side, of one camera
        (0, 1, 15.0, -8.5),
        (1, 1, 15.0, -8.2),  # one of them again
        (1, 0, 15.0, -8.0),  # a car at the walkers' place, 3.2 m from the others
    ]
    found = lift(boxes_touching(seen, [0.5, 0.9, 0.8, 0.7, 0.6, 0.4]))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.4])
    assert found.labels.tolist() == [0, 1, 1, 0]


def test_a_broken_calibration_is_refused() -> None:
    intrinsics, poses = rig()
    poses[1, 0, 0] = 3.0
    with pytest.raises(ValueError, match=r"ego_from_cam must be a rigid motion"):
        none = torch.zeros(0, dtype=torch.int64)
        empty = ImageBoxes(boxes_px=torch.zeros(0, 4), labels=none, cameras=none)
        lift_boxes(empty, PRIORS, intrinsics=intrinsics, ego_from_cam=poses)


def test_priors_are_the_classes_means_and_headings(root: Path) -> None:
    """From the tables, box by box, in the ego frame of its sample."""
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
    assert priors.size_m[DETECTION_CLASSES.index("truck")].tolist() == [1.0] * 3  # there is none
    some = priors.of(("truck", "car"))
    assert torch.equal(some.size_m[1], priors.size_m[label]) and len(some.yaw_rad) == 2
