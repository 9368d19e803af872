"""Hand-made rigs, boxes and frames for the drawing tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from bevstack.render import BoxLayer, Canvas
from bevstack.render.layers import PREDICTED, BoxStyle
from bevstack.types import Annotations, Boxes3D, Detections, Frame

NAMES = ("car", "pedestrian", "unicorn")


def pose_of_camera(yaw_deg: float, position_m: Sequence[float]) -> Tensor:  # (4, 4) ego_from_cam
    """Return the pose of a level camera: z along the yaw, x to the right, y down."""
    yaw = np.deg2rad(yaw_deg)
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, [0.0, 0.0, -1.0], forward), 1)
    pose[:3, 3] = position_m
    return torch.from_numpy(pose)


def make_boxes(rows: Sequence[Sequence[float]]) -> Boxes3D:
    """Return boxes from rows (x, y, z, length, width, height, yaw, vx, vy)."""
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 9)
    return Boxes3D(values[:, :3], values[:, 3:6], values[:, 6], values[:, 7:])


def random_detections(count: int, seed: int, spread_m: float = 40.0) -> Detections:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    center = (uniform(count, 3) - 0.5) * torch.tensor([2 * spread_m, 2 * spread_m, 1.0])
    size = uniform(count, 3) * torch.tensor([6.0, 2.0, 2.0]) + 0.3
    velocity = (uniform(count, 2) - 0.5) * 20
    boxes = Boxes3D(center, size, uniform(count) * 7, velocity)
    labels = torch.randint(0, len(NAMES), (count,), generator=generator)
    return Detections(boxes, uniform(count), labels)


def make_frame(
    sizes: Sequence[tuple[int, int] | None],
    names: tuple[str, ...] = (),
    annotations: Annotations | None = None,
    seed: int = 0,
) -> Frame:
    """Return a frame of cameras with the given image sizes (None: lost), spread in yaw."""
    random = np.random.default_rng(seed)
    images = [s and random.integers(0, 255, (*s, 3), dtype=np.uint8) for s in sizes]
    intrinsics = []
    for size in sizes:
        height, width = size or (90, 160)
        focal = 0.8 * width
        intrinsics.append([[focal, 0, width / 2 + 3], [0, focal, height / 2 - 2], [0, 0, 1.0]])
    poses = [pose_of_camera(-360 * i / len(sizes), (0.3 * i, 0.1, 1.5)) for i in range(len(sizes))]
    return Frame(
        images=images,
        intrinsics=torch.tensor(intrinsics),
        ego_from_cam=torch.stack(poses),
        camera_names=names,
        annotations=annotations,
    )


def layer_of(boxes: Boxes3D, style: BoxStyle = PREDICTED) -> BoxLayer:
    """Return a layer whose labels are all 0 and whose scores are all 0.5."""
    count = len(boxes)
    return BoxLayer(boxes, torch.zeros(count, dtype=torch.int64), torch.full((count,), 0.5), style)


def assert_texts_are_whole(canvas: Canvas) -> None:
    """Check that no text is cut by the picture's border and that no two texts overlap."""
    for text in canvas.texts:
        assert text.inside(canvas.bounds), text
    for first, second in combinations(canvas.texts, 2):
        assert not first.overlaps(second), (first, second)
