"""Hand-made rigs, images and boxes that do not depend on torch's random generators."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bevstack.geometry import BEVGrid, CameraRig
from bevstack.types import Annotations, Batch, Boxes3D
from tests.frozen.case import draw

GRID = BEVGrid(x_range_m=(-9.0, 13.0), y_range_m=(-8.0, 6.0), z_range_m=(-2.0, 3.5), shape=(4, 5))
PADDED = (32, 48)
# (cos, sin) of the heading, position, focal lengths, principal point, (H, W). The headings come
# from Pythagorean triples, because the last bit of a computed cosine differs between machines.
RIGS = (
    (
        ((1.0, 0.0), (1.5, 0.1, 1.4), (16.0, 17.0), (22.0, 13.5), (27, 44)),
        ((0.28, 0.96), (0.2, 0.6, 1.5), (15.0, 14.0), (20.5, 15.0), (30, 41)),
        ((-0.6, -0.8), (-0.4, -0.7, 1.3), (13.0, 13.5), (24.0, 16.0), (32, 48)),
    ),
    (
        ((0.8, 0.6), (0.9, 0.3, 1.9), (17.0, 18.0), (23.0, 14.0), (29, 46)),
        ((0.6, -0.8), (0.7, -0.5, 2.1), (12.0, 13.0), (19.0, 12.0), (25, 40)),
        ((-0.96, 0.28), (-1.2, 0.0, 1.8), (14.0, 12.5), (21.0, 14.5), (28, 43)),
    ),
)


def rig() -> CameraRig:
    """Return two samples of three cameras, leading axes (2,); the second one's middle is lost."""
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 3, 1, 1)
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(2, 3, 1, 1)
    sizes = torch.zeros(2, 3, 2, dtype=torch.int64)
    for b, cameras in enumerate(RIGS):
        for n, ((cos, sin), position, focal, principal_point, size) in enumerate(cameras):
            columns = ((sin, -cos, 0.0), (0.0, 0.0, -1.0), (cos, sin, 0.0))  # right, down, forward
            poses[b, n, :3, :3] = torch.tensor(columns, dtype=torch.float64).T
            poses[b, n, :3, 3] = torch.tensor(position, dtype=torch.float64)
            intrinsics[b, n, (0, 1), (0, 1)] = torch.tensor(focal, dtype=torch.float64)
            intrinsics[b, n, :2, 2] = torch.tensor(principal_point, dtype=torch.float64)
            sizes[b, n] = torch.tensor(size)
    mask = torch.tensor(((True, True, True), (True, False, True)))
    return CameraRig(intrinsics, poses, sizes, mask)


def batch() -> Batch:
    """Return the two rigs with drawn images, one sample rotated and mirrored by augmentation."""
    cameras = rig()
    images = draw("images", 2, 1, 3, 3, *PADDED)
    for b in range(2):
        for n in range(3):
            height, width = cameras.image_size[b, n].tolist()
            images[b, 0, n, :, height:] = 0
            images[b, 0, n, :, :, width:] = 0
    turn = torch.tensor(((-0.96, 0.28, 0.0), (0.28, 0.96, 0.0), (0.0, 0.0, 1.0)))
    return Batch(
        images,
        CameraRig(*(getattr(cameras, f).unsqueeze(1) for f in cameras.__dataclass_fields__)),
        torch.ones(2, 1, dtype=torch.bool),
        torch.tensor(((0, 1, 3), (2, 0, 1))),
        torch.eye(4, dtype=torch.float64).repeat(2, 1, 1, 1),
        torch.zeros(2, 1, dtype=torch.int64),
        ("first", "second"),
        ("scene", "scene"),
        bev_augmentation=torch.stack((torch.eye(3).double(), 1.05 * turn.double())),
    )


def boxes(name: str, count: int) -> Boxes3D:  # float32
    """Return drawn boxes within a few metres of the origin."""
    return Boxes3D(
        (draw(f"{name}.center", count, 3) * torch.tensor((2.5, 2.0, 0.5))).float(),
        (1.5 + 0.6 * draw(f"{name}.size", count, 3)).float(),
        (draw(f"{name}.yaw", count) * (math.pi / 2)).float(),
        (3 * draw(f"{name}.velocity", count, 2)).float(),
    )


def annotations(name: str, count: int, classes: int) -> Annotations:
    """Return boxes with classes; the last box has no lidar point."""
    labels = torch.arange(count) * 5 % classes
    points = torch.arange(count, 0, -1) - 1
    return Annotations(boxes(name, count), labels, points)


def rotation(quaternion: Tensor) -> Tensor:  # (3, 3)
    """Return the rotation matrix of a quaternion wxyz, by the formula."""
    w, x, y, z = (quaternion / quaternion.norm()).tolist()
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.tensor(rows, dtype=torch.float64)
