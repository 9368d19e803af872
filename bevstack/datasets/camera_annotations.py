"""True boxes of every camera image, at its capture time (v2 specification, 11.2).

Letters: N cameras, A boxes of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.geometry import quaternion_from_rotation, se3_from_parts, transform_points
from bevstack.tables.annotation_checks import NOT_COUNTED, points_inside
from bevstack.tables.calibration import detection_labels
from bevstack.tables.names import VISIBILITY_LEVELS
from bevstack.tables.reader import Tables
from bevstack.types import CameraAnnotations
from bevstack.types.perspective import (
    CAMERA_CORNER_SIGNS,
    UNKNOWN_ATTRIBUTE,
    UNKNOWN_VISIBILITY,
)

MIN_POINTS = 3  # default minimum of lidar and radar points in a box. Released code
MIN_VISIBLE_SHARE = 0.2  # of a box's outline that lies inside the image. Released code
MIN_CORNER_DEPTH_M = 0.1  # of every corner, as in the devkit's box_in_image

# Index by which the perspective head learns an attribute: each kind of object has up to three.
CAMERA_ATTRIBUTES: Mapping[str, int] = MappingProxyType(
    {
        "vehicle.moving": 0,
        "vehicle.parked": 1,
        "vehicle.stopped": 2,
        "pedestrian.moving": 0,
        "pedestrian.standing": 1,
        "pedestrian.sitting_lying_down": 2,
        "cycle.with_rider": 0,
        "cycle.without_rider": 1,
    }
)


def camera_annotations(
    tables: Tables,
    sample: int,
    class_names: Sequence[str],
    *,
    cam_from_world: Tensor,  # (N, 4, 4) float64, at each image's capture time
    intrinsics: Tensor,  # (N, 3, 3) float64 pixels
    image_size: Tensor,  # (N, 2) (H, W) pixels
    min_points: int = MIN_POINTS,
) -> tuple[CameraAnnotations, ...]:  # N
    """Return the boxes of a sample that each of its cameras sees, in file order.

    A box is left out of a camera's boxes if

    - it contains fewer than ``min_points`` lidar and radar points, if they were counted;
    - less than a fifth of its outline (the rectangle around its projected corners) lies in the
      image;
    - one of its corners lies behind the camera or less than 0.1 m in front of it. Such a corner has
      no projection, so the outline is unbounded and no fifth of it can lie in the image. (The
      devkit's export of 2D boxes keeps the remaining corners. Their rectangle can miss most of the
      visible part.)

    The released code also leaves out a box unless a corner lies in the image and deeper than 1 m
    (the devkit's rule of visibility). Such a box is kept here, because it can fill the image.

    Args:
        tables: the version's tables.
        sample: row of the sample.
        class_names: the classes to keep; labels index into them.
        cam_from_world: poses of the sample's cameras.
        intrinsics: of the images as decoded.
        image_size: of the images as decoded.
        min_points: smallest number of lidar and radar points in a box that is kept.
    """
    table = tables.annotations
    rows = tables.annotations_of(sample)
    labels = detection_labels(tables, rows, class_names)
    points = points_inside(tables, rows)
    kept = (labels >= 0) & ((points >= min_points) | (points == NOT_COUNTED))
    rows, labels = rows[kept], labels[kept]
    world_from_box = se3_from_parts(
        torch.from_numpy(table.rotation[rows]), torch.from_numpy(table.translation[rows])
    )
    size = torch.from_numpy(table.size[rows][:, [1, 0, 2]])  # (w, l, h) -> (l, w, h)
    cam_from_box = cam_from_world[:, None] @ world_from_box  # (N, A, 4, 4)
    boxes_px, visible = outlines(cam_from_box, size, intrinsics, image_size)
    box = visible.nonzero()[:, 1]  # row of every visible box, camera by camera
    attributes = [CAMERA_ATTRIBUTES.get(str(a), UNKNOWN_ATTRIBUTE) for a in table.attribute[rows]]
    speed = torch.from_numpy(np.hypot(*table.velocity[rows].T))
    fields = (
        boxes_px[visible].float(),
        torch.from_numpy(labels)[box],
        quaternion_from_rotation(cam_from_box[visible][:, :3, :3]).float(),
        cam_from_box[visible][:, :3, 3].float(),
        size[box].float(),
        torch.tensor(attributes, dtype=torch.int64)[box],
        speed[box].float(),
        _visibility(table.visibility[rows])[box],
    )
    counts = visible.sum(1).tolist()
    cameras = zip(*(torch.split(field, counts) for field in fields), strict=True)
    return tuple(CameraAnnotations(*parts) for parts in cameras)


def _visibility(
    tokens: NDArray[np.str_],  # (A,) of visibility.json, or ""
) -> Tensor:  # (A,) int64
    """Return the level of visibility of each box; nuScenes' tokens are the levels' numbers."""
    known = {str(level): level for level in range(1, len(VISIBILITY_LEVELS) + 1)}
    levels = [known.get(str(token), UNKNOWN_VISIBILITY) for token in tokens]
    return torch.tensor(levels, dtype=torch.int64)


def outlines(
    cam_from_box: Tensor,  # (N, A, 4, 4)
    size: Tensor,  # (A, 3) (length, width, height) metres
    intrinsics: Tensor,  # (N, 3, 3) pixels
    image_size: Tensor,  # (N, 2) (H, W) pixels
) -> tuple[Tensor, Tensor]:
    """Project boxes into the images.

    Returns:
        Rectangles (N, A, 4) around the projected corners, clipped to the image, and a mask (N, A)
        of the visible boxes. The rectangle of an invisible box has no meaning.
    """
    offsets = 0.5 * size[:, None] * size.new_tensor(CAMERA_CORNER_SIGNS)  # (A, 8, 3)
    corners = transform_points(cam_from_box, offsets)  # (N, A, 8, 3)
    depth = corners[..., 2]
    in_front = (depth > MIN_CORNER_DEPTH_M).all(-1)
    projected = corners @ intrinsics[:, None].transpose(-1, -2)
    uv = projected[..., :2] / depth.clamp(min=MIN_CORNER_DEPTH_M)[..., None]  # (N, A, 8, 2)
    low, high = uv.amin(-2), uv.amax(-2)  # (N, A, 2)
    bounds = image_size.flip(-1)[:, None].to(uv.dtype)  # (N, 1, 2) width, height
    low_inside = torch.minimum(low.clamp(min=0), bounds)
    high_inside = torch.minimum(high.clamp(min=0), bounds)
    area = (high_inside - low_inside).prod(-1)
    large_enough = (area > 0) & (area >= MIN_VISIBLE_SHARE * (high - low).prod(-1))
    return torch.cat((low_inside, high_inside), -1), in_front & large_enough
