"""Baseline that lifts 2D image boxes to 3D: inverse perspective mapping to a flat ground.

An object stands on the ground at the pixel in the middle of the lower side of its image box. The
ray through that pixel intersects the plane z = 0 of the ego frame at the object's position, if the
ground is flat and the object stands on it. Size and heading come from the class: its mean size and
its most typical heading. The velocity is 0. The method learns no depth. The image boxes may be true
boxes or the output of any 2D detector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bevstack.evaluation.baselines.priors import mean_boxes, scored_annotations
from bevstack.evaluation.detection3d.evaluator import HALF_TURN_CLASSES
from bevstack.geometry.camera import check_intrinsics
from bevstack.geometry.se3 import check_rigid
from bevstack.shapes import expect_shape
from bevstack.tables.reader import Tables
from bevstack.types import Boxes3D, Detections
from bevstack.vocabulary import DETECTION_CLASSES

HEADINGS = 72  # candidate headings of each class, 5 degrees apart
LEAST_REACH_M = 1.0  # boxes of two cameras that are nearer are one object, even of a small class
LEAST_DISTANCE_M = 1.0  # scores by distance do not grow below this distance


@dataclass(frozen=True, kw_only=True)
class ClassPriors:
    """Mean size and typical heading of each class."""

    size_m: Tensor  # (K, 3) float64, mean (length, width, height)
    yaw_rad: Tensor  # (K,) float64, in the ego frame

    def select_classes(self, class_names: Sequence[str]) -> ClassPriors:
        """Return the priors of the given detection classes, in their order.

        Raises:
            ValueError: a name is not a detection class.
        """
        rows = [DETECTION_CLASSES.index(name) for name in class_names]
        return ClassPriors(size_m=self.size_m[rows], yaw_rad=self.yaw_rad[rows])


@dataclass(frozen=True, kw_only=True)
class ImageBoxes:
    """2D boxes in the images of one rig."""

    boxes_px: Tensor  # (M, 4) (left, top, right, bottom)
    labels: Tensor  # (M,) int64
    cameras: Tensor  # (M,) int64, index of the camera
    scores: Tensor | None = None  # (M,) 0 to 1; None: the inverse of the distance in metres

    def __post_init__(self) -> None:
        sizes = expect_shape("boxes_px", self.boxes_px, ("M", 4))
        expect_shape("labels", self.labels, ("M",), sizes)
        expect_shape("cameras", self.cameras, ("M",), sizes)
        if self.scores is not None:
            expect_shape("scores", self.scores, ("M",), sizes)


def class_priors(tables: Tables, train: str | Sequence[str]) -> ClassPriors:
    """Compute mean sizes and typical headings of the detection classes from the scored boxes.

    The typical heading is the one of 72 candidates with the smallest mean angle to the headings of
    the class, which is what the orientation error measures. With traffic in both directions it is
    the direction of the majority. A class without boxes in ``train`` gets a cube of 1 m with
    heading 0.

    Raises:
        ValueError: a split or scene does not exist, or ``train`` has no true box.
    """
    annotations = scored_annotations(tables, train)
    labels = annotations.labels.numpy()
    size = mean_boxes(annotations.boxes, labels, len(DETECTION_CLASSES)).size
    present = torch.from_numpy(np.bincount(labels, minlength=len(DETECTION_CLASSES)) > 0)
    yaw = torch.zeros(len(DETECTION_CLASSES), dtype=torch.float64)
    for label in present.nonzero().flatten().tolist():
        half_turn = DETECTION_CLASSES[label] in HALF_TURN_CLASSES
        headings = annotations.boxes.yaw[annotations.labels == label].to(torch.float64)
        yaw[label] = _median_heading(headings, period=math.pi if half_turn else 2 * math.pi)
    return ClassPriors(size_m=torch.where(present[:, None], size, 1.0), yaw_rad=yaw)


def intersect_ground(
    pixels: Tensor,  # (M, 2) (u, v)
    intrinsics: Tensor,  # (M, 3, 3) of the camera of each
    ego_from_cam: Tensor,  # (M, 4, 4)
) -> Tensor:  # (M, 3) float64 metres, ego frame
    """Intersect the rays through pixels with the plane z = 0 of the ego frame.

    A ray that does not reach the plane gives NaN: it points up, or the camera is below the plane.
    """
    sizes = expect_shape("pixels", pixels, ("M", 2))
    expect_shape("intrinsics", intrinsics, ("M", 3, 3), sizes)
    expect_shape("ego_from_cam", ego_from_cam, ("M", 4, 4), sizes)
    pose = ego_from_cam.to(torch.float64)
    homogeneous = torch.cat((pixels, torch.ones_like(pixels[:, :1])), -1).to(torch.float64)
    ray = torch.linalg.solve(intrinsics.to(torch.float64), homogeneous[..., None])
    direction = (pose[:, :3, :3] @ ray).squeeze(-1)
    origin = pose[:, :3, 3]
    scale = -origin[:, 2] / direction[:, 2]
    point = origin + scale[:, None] * direction
    points_down = (direction[:, 2] < 0) & (origin[:, 2] > 0)
    return torch.where(points_down[:, None], point, torch.nan)


def lift_boxes(
    image_boxes: ImageBoxes,
    priors: ClassPriors,  # of the classes that the labels index
    *,
    intrinsics: Tensor,  # (N, 3, 3) pixels
    ego_from_cam: Tensor,  # (N, 4, 4)
    contact_at_near_edge: bool = False,
) -> Detections:
    """Lift 2D boxes to 3D boxes in the ego frame, best first.

    Boxes above the horizon are left out. Two boxes of one class from different cameras are one
    object if they are nearer than the mean length of the class; the one of higher score is kept.
    Boxes of the same camera are always kept, because the 2D detector separated them.

    Args:
        image_boxes: the 2D boxes.
        priors: size and heading of the classes that the labels index.
        intrinsics: calibration of the images that contain the 2D boxes.
        ego_from_cam: poses of the cameras at the time that the 3D boxes are for.
        contact_at_near_edge: the ground contact is the near edge of the object instead of its
            center; the center is then farther away along the ray, by half of the box's extent along
            the ray.

    Raises:
        ValueError: a calibration is not finite and invertible, or the arguments do not fit
            together.
    """
    check_intrinsics("intrinsics", intrinsics)
    check_rigid("ego_from_cam", ego_from_cam)
    left, _, right, bottom = image_boxes.boxes_px.to(torch.float64).unbind(-1)
    contact = torch.stack(((left + right) / 2, bottom), -1)
    cameras, labels, scores = image_boxes.cameras, image_boxes.labels, image_boxes.scores
    center = intersect_ground(contact, intrinsics[cameras], ego_from_cam[cameras])
    size, yaw = priors.size_m[labels], priors.yaw_rad[labels]
    if contact_at_near_edge:
        view = center[:, :2] - ego_from_cam[cameras, :2, 3].to(torch.float64)
        center = torch.cat((center[:, :2] + _half_extent(view, size, yaw), center[:, 2:]), -1)
    distance = center[:, :2].norm(dim=-1)
    scores = 1 / distance.clamp(min=LEAST_DISTANCE_M) if scores is None else scores
    center = center + 0.5 * size * size.new_tensor((0.0, 0.0, 1.0))
    boxes = Boxes3D(center, size, yaw, torch.zeros_like(center[:, :2]))
    lifted = Detections(boxes, scores.to(torch.float64), labels)
    order = torch.where(center.isfinite().all(-1), lifted.scores, -1.0)
    order = order.argsort(descending=True, stable=True)
    order = order[center[order].isfinite().all(-1)]
    return _merge_cameras(lifted[order], cameras[order], priors.size_m[:, 0])


def _half_extent(
    view: Tensor,  # (M, 2) from the camera to the boxes
    size: Tensor,  # (M, 3)
    yaw: Tensor,  # (M,)
) -> Tensor:  # (M, 2)
    """Return the vectors from the near edge of boxes to their centers, along the line of sight."""
    relative_yaw = torch.atan2(view[:, 1], view[:, 0]) - yaw
    depth = 0.5 * (size[:, 0] * relative_yaw.cos().abs() + size[:, 1] * relative_yaw.sin().abs())
    return depth[:, None] * torch.nn.functional.normalize(view, dim=-1)


def _merge_cameras(
    detections: Detections,  # best first
    cameras: Tensor,  # (M,)
    reach_m: Tensor,  # (K,) distance below which two boxes of a class are one object
) -> Detections:
    """Remove boxes for which a box of another camera and higher score is the same object."""
    center = detections.boxes.center[:, :2].numpy()
    labels, camera = detections.labels.numpy(), cameras.numpy()
    reach = np.maximum(reach_m.numpy(), LEAST_REACH_M)
    kept: list[int] = []
    for row in range(len(detections)):
        rivals = np.array(kept, dtype=np.int64)
        rivals = rivals[(labels[rivals] == labels[row]) & (camera[rivals] != camera[row])]
        distances = np.linalg.norm(center[rivals] - center[row], axis=-1)
        if not (distances < reach[labels[row]]).any():
            kept.append(row)
    return detections[torch.tensor(kept, dtype=torch.int64)]


def _median_heading(
    yaw: Tensor,  # (M,)
    *,
    period: float,
) -> float:
    """Return the candidate heading with the smallest mean angle to the given headings."""
    candidates = torch.arange(HEADINGS, dtype=torch.float64) * (2 * math.pi / HEADINGS)
    differences = torch.remainder(candidates[:, None] - yaw, period)
    best = torch.minimum(differences, period - differences).mean(-1).argmin()
    return float(torch.remainder(candidates[best] + math.pi, 2 * math.pi) - math.pi)
