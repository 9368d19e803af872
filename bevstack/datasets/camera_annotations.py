"""True boxes as each camera sees them, at the time of its own image (v2 specification, 11.2).

Letters: N cameras, A boxes of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from bevstack.geometry import quaternion_from_rotation, se3_from_parts, transform_points
from bevstack.tables.calibration import detection_labels
from bevstack.tables.reader import Tables
from bevstack.types import CameraAnnotations
from bevstack.types.perspective import CAMERA_CORNER_SIGNS, UNKNOWN_ATTRIBUTE

MIN_POINTS = 3  # lidar and radar points in a box, unless said otherwise. Released code
MIN_VISIBLE_SHARE = 0.2  # of a box's outline, inside the image. Released code
MIN_CORNER_DEPTH_M = 0.1  # of every corner. The devkit's box_in_image

# What the perspective head learns of an attribute: each kind of object has up to three.
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
    cam_from_world: Tensor,  # (N, 4, 4) float64, each at its image's own time
    intrinsics: Tensor,  # (N, 3, 3) float64 pixels
    image_size: Tensor,  # (N, 2) (H, W) pixels
    min_points: int = MIN_POINTS,
) -> tuple[CameraAnnotations, ...]:  # N
    """The boxes of a sample that each of its cameras sees, in file order.

    A box is left out where fewer than ``min_points`` lidar and radar points fell into it, and where
    less than a fifth of its outline (the rectangle around its projected corners) lies in the image.

    It is left out, too, where a corner lies behind the camera or less than 0.1 m before it. Such
    a corner has no image, and the part of the box before the camera reaches out of every picture:
    its outline has no bounds, so no share of it is a fifth. (The devkit's export of 2D boxes keeps
    the other corners; their rectangle can miss most of what is seen.) The released code leaves
    these out as well, and besides, by the devkit's rule of visibility, boxes of which no corner
    lies in the image and deeper than 1 m. Those stay here: what fills the image is seen.

    Args:
        tables: the version's tables.
        sample: row of the sample.
        class_names: the classes kept; labels index into them.
        cam_from_world: of the sample's cameras.
        intrinsics: of the images as they are in the files.
        image_size: likewise.
        min_points: lidar and radar points of a box that is kept.
    """
    table = tables.annotations
    rows = tables.annotations_of(sample)
    labels = detection_labels(tables, rows, class_names)
    learned = (labels >= 0) & (table.num_points[rows] >= min_points)
    rows, labels = rows[learned], labels[learned]
    world_from_box = se3_from_parts(
        torch.from_numpy(table.rotation[rows]), torch.from_numpy(table.translation[rows])
    )
    size = torch.from_numpy(table.size[rows][:, [1, 0, 2]])  # (w, l, h) -> (l, w, h)
    cam_from_box = cam_from_world[:, None] @ world_from_box  # (N, A, 4, 4)
    boxes_px, visible = outlines(cam_from_box, size, intrinsics, image_size)
    box = visible.nonzero()[:, 1]  # of the cameras one after the other
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
    )
    counts = visible.sum(1).tolist()
    of_cameras = zip(*(field.split(counts) for field in fields), strict=True)
    return tuple(CameraAnnotations(*parts) for parts in of_cameras)


def outlines(
    cam_from_box: Tensor,  # (N, A, 4, 4)
    size: Tensor,  # (A, 3) (length, width, height) metres
    intrinsics: Tensor,  # (N, 3, 3) pixels
    image_size: Tensor,  # (N, 2) (H, W) pixels
) -> tuple[Tensor, Tensor]:
    """Rectangles (N, A, 4) around boxes, clipped to the image, and which are seen (N, A).

    Where a box is not seen, its rectangle means nothing.
    """
    offsets = 0.5 * size[:, None] * size.new_tensor(CAMERA_CORNER_SIGNS)  # (A, 8, 3)
    corners = transform_points(cam_from_box, offsets)  # (N, A, 8, 3)
    depth = corners[..., 2]
    ahead = (depth > MIN_CORNER_DEPTH_M).all(-1)
    projected = corners @ intrinsics[:, None].transpose(-1, -2)
    seen = projected[..., :2] / depth.clamp(min=MIN_CORNER_DEPTH_M)[..., None]  # (N, A, 8, 2)
    low, high = seen.amin(-2), seen.amax(-2)  # (N, A, 2)
    bounds = image_size.flip(-1)[:, None].to(seen.dtype)  # (N, 1, 2) width, height
    low_inside = torch.minimum(low.clamp(min=0), bounds)
    high_inside = torch.minimum(high.clamp(min=0), bounds)
    area = (high_inside - low_inside).prod(-1)
    enough = (area > 0) & (area >= MIN_VISIBLE_SHARE * (high - low).prod(-1))
    return torch.cat((low_inside, high_inside), -1), ahead & enough
