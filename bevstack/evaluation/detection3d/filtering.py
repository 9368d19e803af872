"""Filtering of boxes by range, by number of points, and by bicycle racks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.box_errors import Floats, rotation_matrices
from bevstack.evaluation.detection3d.columns import BicycleRacks, BoxColumns
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.vocabulary import DETECTION_CLASSES

RACK_CLASSES = ("bicycle", "motorcycle")
LEAST_EDGE_M = 1e-3  # shorter edges may round to zero at the magnitude of world coordinates


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """Rows of the boxes that the metric counts, and the number of boxes after each rule."""

    rows: NDArray[np.int64]  # ascending
    total: int
    near: int  # within the range of their class
    with_points: int  # of those, the ones with points or with an unknown number of points
    outside_racks: int  # of those, the ones outside of racks: the scored boxes


def filter_boxes(
    boxes: BoxColumns,
    distance_m: Floats,  # (M,) from the ego
    racks: BicycleRacks,
    config: MetricConfig,
) -> Filtered:
    """Apply the three rules to true or predicted boxes.

    A box is compared with the racks of the sample whose list holds it.
    """
    range_by_class = config.class_range_m
    ranges = np.array([range_by_class[name] for name in DETECTION_CLASSES], dtype=np.float64)
    rows = np.flatnonzero(distance_m < ranges[boxes.label])
    with_points = rows[boxes.num_points[rows] != 0]
    kept = with_points[~_in_racks(boxes, with_points, racks)]
    return Filtered(
        rows=kept,
        total=len(boxes),
        near=len(rows),
        with_points=len(with_points),
        outside_racks=len(kept),
    )


def ego_distances(
    boxes: BoxColumns,
    ego_translation: Floats,  # (S, 3) metres in the world
) -> Floats:  # (M,) metres
    """Return the distance in (x, y) from the ego to the center of each box.

    The ego is at its position in the sample whose list holds the box.
    """
    x, y = (boxes.translation[:, k] - ego_translation[:, k][boxes.sample] for k in (0, 1))
    distances: Floats = np.sqrt(x * x + y * y)
    return distances


def _in_racks(
    boxes: BoxColumns, rows: NDArray[np.int64], racks: BicycleRacks
) -> NDArray[np.bool_]:  # of the rows
    """Return True for each row whose box is a cycle inside a rack of its sample."""
    inside = np.zeros(len(rows), dtype=np.bool_)
    if not len(racks.sample):
        return inside
    labels = [DETECTION_CLASSES.index(name) for name in RACK_CLASSES]
    with_racks = np.zeros(len(boxes.sample_tokens), dtype=np.bool_)
    with_racks[racks.sample] = True
    candidates = np.flatnonzero(np.isin(boxes.label[rows], labels) & with_racks[boxes.sample[rows]])
    samples = boxes.sample[rows[candidates]]
    order = np.argsort(samples, kind="stable")
    candidates, samples = candidates[order], samples[order]
    first = np.searchsorted(samples, racks.sample, side="left")
    last = np.searchsorted(samples, racks.sample, side="right")
    reach = _reach_m(racks)
    for rack in np.flatnonzero(last > first):
        rack_candidates = candidates[first[rack] : last[rack]]
        centers = boxes.translation[rows[rack_candidates]]
        near = np.abs(centers - racks.translation[rack]).max(-1) <= reach[rack]
        if not near.any():
            continue
        corners = _corners(racks, rack)
        for row, center in zip(rack_candidates[near], centers[near], strict=True):
            inside[row] |= _contains(corners, center)
    return inside


def _reach_m(racks: BicycleRacks) -> Floats:  # (R,)
    """Return the distance from a rack's center beyond which no box is inside.

    It is twice the distance of a corner. For the projections of ``_contains`` a rack without volume
    or heading contains a whole plane or the whole world, so its distance is infinite.
    """
    solid = (racks.size.min(-1) > LEAST_EDGE_M) & racks.rotation.any(-1)
    return np.where(solid, np.sqrt(np.sum(racks.size**2, axis=-1)), np.inf)


def _corners(racks: BicycleRacks, rack: int) -> Floats:  # (3, 8)
    """Return the corners in the world frame, in the devkit's order and with its arithmetic."""
    width, length, height = racks.size[rack]
    corners = np.vstack(
        (
            length / 2 * np.array([1, 1, 1, 1, -1, -1, -1, -1]),
            width / 2 * np.array([1, -1, -1, 1, 1, -1, -1, 1]),
            height / 2 * np.array([1, 1, -1, -1, 1, 1, -1, -1]),
        )
    )
    rotation = rotation_matrices(racks.rotation[rack : rack + 1])[0]
    world_corners: Floats = np.dot(rotation, corners) + racks.translation[rack][:, None]
    return world_corners


def _contains(corners: Floats, point: Floats) -> bool:
    """Return True if a box, including its surface, contains a point.

    A point is inside if its projections lie within three edges. One point at a time and in the
    devkit's array shapes: points exactly on the surface depend on the last bits.
    """
    origin = corners[:, 0]
    offset = point.reshape(3, 1) - origin.reshape(-1, 1)
    for corner in (4, 1, 3):
        edge = corners[:, corner] - origin
        projection = np.dot(edge, offset)
        if not (0 <= projection[0] <= np.dot(edge, edge)):
            return False
    return True
