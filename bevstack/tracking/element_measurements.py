"""Measurements of lights and signs in the world frame, and the images that should show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.config.element_tracking import ElementTrackingConfig
from bevstack.tracking import element_filter
from bevstack.tracking.element_tracks import Elements
from bevstack.types.rig_view import RigView
from bevstack.types.traffic_detections import TrafficDetections

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Share of the smaller of two boxes in the other one from which they show one element: a second box
# of a housing holds a part of it, or the arm beside it. Housings do not hide half of one another.
PART_OVERLAP = 0.5


@dataclass(frozen=True)
class Measured:
    """Usable detections of one frame, in the world frame."""

    row: Integers  # (D,) in the detections
    camera: Integers  # (D,)
    category: Integers  # (D,)
    position_m: Floats  # (D, 3)
    noise_m2: Floats  # (D, 3, 3)
    camera_m: Floats  # (D, 3) place of the camera
    yaw_rad: Floats  # (D,)
    yaw_variance: Floats  # (D,)
    height_m: Floats  # (D,)
    lamp_box: NDArray[np.bool_]  # (D,)
    scores: Floats  # (D,)
    boxes_px: Floats  # (D, 4)


def measure(
    detections: TrafficDetections, view: RigView, config: ElementTrackingConfig
) -> Measured:
    """Return the usable detections of a frame in the world frame."""
    numbers = (
        detections.position_m,
        detections.position_cov_m2.reshape(len(detections), 9),
        detections.boxes_px,
        detections.scores[:, None],
    )
    usable = np.isfinite(np.concatenate(numbers, 1)).all(1)
    usable &= (np.abs(detections.position_m) < 1e4).all(1)
    usable &= (detections.camera >= 0) & (detections.camera < len(view.intrinsics))
    usable[usable] &= view.camera_mask[detections.camera[usable]]
    usable &= (detections.boxes_px[:, 2:] > detections.boxes_px[:, :2]).all(1)
    usable &= detections.scores >= config.update_score
    row = _without_parts(detections, np.flatnonzero(usable))
    found = detections[row]
    rotation, shift = view.world_from_ego[:3, :3], view.world_from_ego[:3, 3]
    camera_m = view.ego_from_cam[found.camera, :3, 3]
    noise = element_filter.measurement_noise(
        found.position_m,
        found.position_cov_m2,
        camera_m,
        range_inflation=config.range_inflation,
        bearing_sigma_rad=config.bearing_sigma_rad,
    )
    distance = np.linalg.norm(found.position_m - camera_m, axis=1)
    focal = view.intrinsics[found.camera, 1, 1]
    known = np.isfinite(found.heading_rad) & np.isfinite(found.heading_std_rad)
    ego_yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    spread = np.clip(np.where(known, found.heading_std_rad, np.pi), 0.05, np.pi)
    return Measured(
        row=row,
        camera=found.camera,
        category=found.category,
        position_m=found.position_m @ rotation.T + shift,
        noise_m2=rotation @ noise @ rotation.T,
        camera_m=camera_m @ rotation.T + shift,
        yaw_rad=wrapped(np.where(known, found.heading_rad, 0.0) + ego_yaw),
        yaw_variance=np.where(known, spread**2, 1e6),
        height_m=(found.boxes_px[:, 3] - found.boxes_px[:, 1]) * distance / focal,
        lamp_box=lamp_boxes(found),
        scores=np.clip(found.scores, 0, 1),
        boxes_px=found.boxes_px,
    )


def _without_parts(detections: TrafficDetections, rows: Integers) -> Integers:
    """Return the boxes that show no part of what a better box of the image shows, in their order.

    The better box is of the same category, and as this one surrounds the housing or the lit lamp.
    """
    lamp = lamp_boxes(detections)
    kind = np.stack((detections.camera, detections.category, lamp), 1)
    best_first = rows[np.argsort(-detections.scores[rows], kind="stable")]
    kept: list[int] = []
    for row in best_first.tolist():
        rivals = [other for other in kept if (kind[other] == kind[row]).all()]
        box = detections.boxes_px[row]
        if all(overlap(box, detections.boxes_px[other]) <= PART_OVERLAP for other in rivals):
            kept.append(row)
    return np.array(sorted(kept), np.int64)


def lamp_boxes(detections: TrafficDetections) -> NDArray[np.bool_]:  # (D,)
    """Return True for boxes that surround the lit lamp alone."""
    if detections.lamp_box is None:
        return np.zeros(len(detections), np.bool_)
    return np.asarray(detections.lamp_box, np.bool_)


def should_be_visible(
    elements: Elements, view: RigView, config: ElementTrackingConfig
) -> NDArray[np.bool_]:  # (E, N)
    """Return which cameras should show each element: in the image, in range, face turned to it."""
    ego_from_world = view.ego_from_world()
    positions = elements.position_m @ ego_from_world[:3, :3].T + ego_from_world[:3, 3]
    pixels, depth = view.project(positions)
    height, width = view.image_sizes[:, 0], view.image_sizes[:, 1]
    inside = (depth > 0.5) & (pixels >= 0).all(-1)
    inside &= (pixels[..., 0] < width) & (pixels[..., 1] < height)
    cameras = view.world_from_ego @ view.ego_from_cam  # (N, 4, 4)
    sight = cameras[:, :2, 3] - elements.position_m[:, None, :2]  # (E, N, 2) to the camera
    inside &= np.linalg.norm(sight, axis=-1) <= config.visible_range_m
    angle = np.arctan2(sight[..., 1], sight[..., 0]) - elements.yaw_rad[:, None]
    known = elements.yaw_variance < 0.25  # half a radian
    faces = np.abs(wrapped(angle)) <= config.visible_face_rad
    return np.asarray(inside & (faces | ~known[:, None]) & view.camera_mask)


def is_covered(
    elements: Elements,
    rows: Integers,  # (E, N) box of each element in each camera, -1: none
    boxes_px: Floats,  # (D, 4) of the frame
    view: RigView,
    config: ElementTrackingConfig,
) -> NDArray[np.bool_]:  # (E,)
    """Return the elements without a box whose place lies in the box of another one like them.

    They were started by a box of a part of that housing: two housings at one distance do not hide
    each other.
    """
    ego_from_world = view.ego_from_world()
    pixels, depth = view.project(
        elements.position_m @ ego_from_world[:3, :3].T + ego_from_world[:3, 3]
    )
    covered = np.zeros(len(elements), np.bool_)
    alike = elements.category[:, None] == elements.category
    for camera in range(rows.shape[1]):
        seen = np.flatnonzero(rows[:, camera] >= 0)
        box, ahead = boxes_px[rows[seen, camera]], depth[:, camera]
        place = pixels[:, None, camera]  # (E, 1, 2)
        within = ((place >= box[:, :2]) & (place <= box[:, 2:])).all(-1)  # (E, S)
        ratio = np.log(np.maximum(ahead, 0.1))[:, None] - np.log(np.maximum(ahead[seen], 0.1))
        near = (ahead > 0.5)[:, None] & (np.abs(ratio) <= config.covered_log_range)
        covered |= (within & near & alike[:, seen]).any(1)
    return np.asarray(covered & ~(rows >= 0).any(1))


def overlap(first: Floats, second: Floats) -> float:
    """Return the share of the smaller one of two boxes (left, top, right, bottom) in the other."""
    extent = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(extent, 0)))
    smaller = float(min(np.prod(first[2:] - first[:2]), np.prod(second[2:] - second[:2])))
    return shared / smaller if smaller > 0 else 0.0


def wrapped(angle_rad: Floats) -> Floats:
    """Return angles within -pi..pi."""
    return np.asarray((angle_rad + np.pi) % (2 * np.pi) - np.pi)
