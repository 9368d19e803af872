"""What a detector in bird's-eye view must beat: boxes found in single images, stood on the ground.

A rectangle in an image touches the ground at the middle of its lower side. The ray through that
pixel meets the plane z = 0 of the ego frame where the object stands, if the ground is flat and the
object stands on it. The rest is the class's: mean size, likeliest heading, no velocity. Nothing of
depth is learned; the rectangles may be the true ones or anybody's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bevstack.evaluation.baselines.priors import boxes_seen, mean_boxes
from bevstack.evaluation.detection3d.evaluator import HALF_TURN_CLASSES
from bevstack.geometry.camera import check_intrinsics
from bevstack.geometry.se3 import check_rigid
from bevstack.shapes import expect_shape
from bevstack.tables.reader import Tables
from bevstack.types import Boxes3D, Detections
from bevstack.vocabulary import DETECTION_CLASSES

HEADINGS = 72  # tried for each class, 5 degrees apart
LEAST_REACH_M = 1.0  # within which boxes of two cameras are one object, however small its class
LEAST_DISTANCE_M = 1.0  # nearer than this, scores by distance grow no more


@dataclass(frozen=True, kw_only=True)
class ClassPriors:
    """What is known of an object that only its class is known of."""

    size_m: Tensor  # (K, 3) float64, mean (length, width, height)
    yaw_rad: Tensor  # (K,) float64, in the ego frame

    def of(self, class_names: Sequence[str]) -> ClassPriors:
        """Those of some of the detection classes, in another order."""
        rows = [DETECTION_CLASSES.index(name) for name in class_names]
        return ClassPriors(size_m=self.size_m[rows], yaw_rad=self.yaw_rad[rows])


@dataclass(frozen=True, kw_only=True)
class ImageBoxes:
    """Rectangles in the images of one rig."""

    boxes_px: Tensor  # (M, 4) (left, top, right, bottom)
    labels: Tensor  # (M,) int64
    cameras: Tensor  # (M,) int64, which camera's image each is in
    scores: Tensor | None = None  # (M,) 0 to 1; none: the nearer, the surer

    def __post_init__(self) -> None:
        sizes = expect_shape("boxes_px", self.boxes_px, ("M", 4))
        expect_shape("labels", self.labels, ("M",), sizes)
        expect_shape("cameras", self.cameras, ("M",), sizes)
        if self.scores is not None:
            expect_shape("scores", self.scores, ("M",), sizes)


def class_priors(tables: Tables, train: str | Sequence[str]) -> ClassPriors:
    """Mean sizes and likeliest headings of the detection classes, from boxes that scoring counts.

    The heading is the one of 72 from which those of the class differ least in the mean, which is
    what the orientation error measures: with much traffic both ways, that of the larger part. A
    class that ``train`` lacks is a cube of 1 m that looks ahead.

    Raises:
        ValueError: a split or scene that is not there, or no true box in ``train``.
    """
    seen = boxes_seen(tables, train)
    labels = seen.labels.numpy()
    size = mean_boxes(seen.boxes, labels, len(DETECTION_CLASSES)).size
    present = torch.from_numpy(np.bincount(labels, minlength=len(DETECTION_CLASSES)) > 0)
    yaw = torch.zeros(len(DETECTION_CLASSES), dtype=torch.float64)
    for label in present.nonzero().flatten().tolist():
        half = DETECTION_CLASSES[label] in HALF_TURN_CLASSES
        own = seen.boxes.yaw[seen.labels == label].to(torch.float64)
        yaw[label] = _median_heading(own, period=math.pi if half else 2 * math.pi)
    return ClassPriors(size_m=torch.where(present[:, None], size, 1.0), yaw_rad=yaw)


def stand_on_ground(
    pixels: Tensor,  # (M, 2) (u, v)
    intrinsics: Tensor,  # (M, 3, 3) of the camera of each
    ego_from_cam: Tensor,  # (M, 4, 4)
) -> Tensor:  # (M, 3) float64 metres, ego frame
    """Where rays through pixels meet the plane z = 0; NaN for rays that do not fall to it."""
    sizes = expect_shape("pixels", pixels, ("M", 2))
    expect_shape("intrinsics", intrinsics, ("M", 3, 3), sizes)
    expect_shape("ego_from_cam", ego_from_cam, ("M", 4, 4), sizes)
    pose = ego_from_cam.to(torch.float64)
    homogeneous = torch.cat((pixels, torch.ones_like(pixels[:, :1])), -1).to(torch.float64)
    ray = torch.linalg.solve(intrinsics.to(torch.float64), homogeneous[..., None])
    direction = (pose[:, :3, :3] @ ray).squeeze(-1)
    origin = pose[:, :3, 3]
    along = -origin[:, 2] / direction[:, 2]
    place = origin + along[:, None] * direction
    falls = (direction[:, 2] < 0) & (origin[:, 2] > 0)
    return torch.where(falls[:, None], place, torch.nan)


def lift_boxes(
    found: ImageBoxes,
    priors: ClassPriors,  # of the classes that the labels index
    *,
    intrinsics: Tensor,  # (N, 3, 3) pixels
    ego_from_cam: Tensor,  # (N, 4, 4)
    behind_edge: bool = False,
) -> Detections:
    """Rectangles as boxes in the ego frame, best first; those above the horizon are left out.

    Of one class, boxes of two cameras nearer than the class's mean length are one object: the surer
    is kept. Boxes of one camera stay, however near: they were told apart in the image.

    Args:
        found: what is seen.
        priors: of the classes.
        intrinsics: of the images that the rectangles lie in.
        ego_from_cam: of the cameras, at the moment the boxes are for.
        behind_edge: take what touches the ground for the near edge of the object, not its middle,
            which then lies half of the prior box's extent along the ray farther.

    Raises:
        ValueError: a calibration that is not finite and invertible, or parts that do not fit.
    """
    check_intrinsics("intrinsics", intrinsics)
    check_rigid("ego_from_cam", ego_from_cam)
    left, _, right, bottom = found.boxes_px.to(torch.float64).unbind(-1)
    touching = torch.stack(((left + right) / 2, bottom), -1)
    place = stand_on_ground(touching, intrinsics[found.cameras], ego_from_cam[found.cameras])
    size, yaw = priors.size_m[found.labels], priors.yaw_rad[found.labels]
    if behind_edge:
        view = place[:, :2] - ego_from_cam[found.cameras, :2, 3].to(torch.float64)
        place = torch.cat((place[:, :2] + _half_extent(view, size, yaw), place[:, 2:]), -1)
    distance = place[:, :2].norm(dim=-1)
    scores = 1 / distance.clamp(min=LEAST_DISTANCE_M) if found.scores is None else found.scores
    place = place + 0.5 * size * size.new_tensor((0.0, 0.0, 1.0))
    boxes = Boxes3D(place, size, yaw, torch.zeros_like(place[:, :2]))
    lifted = Detections(boxes, scores.to(torch.float64), found.labels)
    order = torch.where(place.isfinite().all(-1), lifted.scores, -1.0)
    order = order.argsort(descending=True, stable=True)
    order = order[place[order].isfinite().all(-1)]
    return _joined(lifted[order], found.cameras[order], priors.size_m[:, 0])


def _half_extent(
    view: Tensor,  # (M, 2) from the camera to the boxes
    size: Tensor,  # (M, 3)
    yaw: Tensor,  # (M,)
) -> Tensor:  # (M, 2)
    """From the near edge of boxes to their middle, along the line of sight."""
    across = torch.atan2(view[:, 1], view[:, 0]) - yaw
    depth = 0.5 * (size[:, 0] * across.cos().abs() + size[:, 1] * across.sin().abs())
    return depth[:, None] * torch.nn.functional.normalize(view, dim=-1)


def _joined(
    found: Detections,  # best first
    cameras: Tensor,  # (M,)
    reach_m: Tensor,  # (K,)
) -> Detections:
    """Without boxes that a surer one of another camera is the same object as."""
    center = found.boxes.center[:, :2].numpy()
    labels, camera = found.labels.numpy(), cameras.numpy()
    reach = np.maximum(reach_m.numpy(), LEAST_REACH_M)
    kept: list[int] = []
    for row in range(len(found)):
        rivals = np.array(kept, dtype=np.int64)
        rivals = rivals[(labels[rivals] == labels[row]) & (camera[rivals] != camera[row])]
        away = np.linalg.norm(center[rivals] - center[row], axis=-1)
        if not (away < reach[labels[row]]).any():
            kept.append(row)
    return found[torch.tensor(kept, dtype=torch.int64)]


def _median_heading(
    yaw: Tensor,  # (M,)
    *,
    period: float,
) -> float:
    """The heading that differs least from the others in the mean."""
    tried = torch.arange(HEADINGS, dtype=torch.float64) * (2 * math.pi / HEADINGS)
    apart = torch.remainder(tried[:, None] - yaw, period)
    best = torch.minimum(apart, period - apart).mean(-1).argmin()
    return float(torch.remainder(tried[best] + math.pi, 2 * math.pi) - math.pi)
