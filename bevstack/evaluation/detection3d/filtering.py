"""Which boxes are scored: near enough, with a point inside, and not in a bicycle rack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.box_errors import Floats, rotation_matrices
from bevstack.evaluation.detection3d.columns import BicycleRacks, BoxColumns
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.vocabulary import DETECTION_CLASSES

RACK_CLASSES = ("bicycle", "motorcycle")
LEAST_EDGE_M = 1e-3  # shorter edges may round to none at a world's coordinates


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """Rows of the boxes that are scored, and how many each rule left."""

    rows: NDArray[np.int64]  # ascending
    total: int
    near: int  # within their class's range
    with_points: int  # of them, not known to be without points
    outside_racks: int  # of them; those that are scored


def filter_boxes(
    boxes: BoxColumns,
    distance_m: Floats,  # (M,) from the ego
    racks: BicycleRacks,
    config: MetricConfig,
) -> Filtered:
    """Applies the three rules to true or predicted boxes.

    A box is held against the racks of the sample in whose list it stands.
    """
    by_name = config.class_range_m
    ranges = np.array([by_name[name] for name in DETECTION_CLASSES], dtype=np.float64)
    rows = np.flatnonzero(distance_m < ranges[boxes.label])
    pointed = rows[boxes.num_points[rows] != 0]
    kept = pointed[~_in_racks(boxes, pointed, racks)]
    return Filtered(
        rows=kept,
        total=len(boxes),
        near=len(rows),
        with_points=len(pointed),
        outside_racks=len(kept),
    )


def ego_distances(
    boxes: BoxColumns,
    ego_translation: Floats,  # (S, 3) metres in the world
) -> Floats:  # (M,) metres
    """From the ego to each box's centre in (x, y), at the sample in whose list the box stands."""
    x, y = (boxes.translation[:, k] - ego_translation[:, k][boxes.sample] for k in (0, 1))
    return np.sqrt(x * x + y * y)


def _in_racks(
    boxes: BoxColumns, rows: NDArray[np.int64], racks: BicycleRacks
) -> NDArray[np.bool_]:  # of the rows
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
        chosen = candidates[first[rack] : last[rack]]
        places = boxes.translation[rows[chosen]]
        close = np.abs(places - racks.translation[rack]).max(-1) <= reach[rack]
        corners = _corners(racks, rack) if close.any() else None
        for row, place in zip(chosen[close], places[close], strict=True):
            inside[row] |= _contains(corners, place)
    return inside


def _reach_m(racks: BicycleRacks) -> Floats:  # (R,)
    """Farther from a rack's centre than this nothing is inside: twice as far as a corner.

    To the projections of ``_contains`` a rack without volume or heading holds a whole plane, or
    all the world, so it has no such reach.
    """
    solid = (racks.size.min(-1) > LEAST_EDGE_M) & racks.rotation.any(-1)
    return np.where(solid, np.sqrt(np.sum(racks.size**2, axis=-1)), np.inf)


def _corners(racks: BicycleRacks, rack: int) -> Floats:  # (3, 8)
    """Corners in the world, in the devkit's order and by its products."""
    width, length, height = racks.size[rack]
    corners = np.vstack(
        (
            length / 2 * np.array([1, 1, 1, 1, -1, -1, -1, -1]),
            width / 2 * np.array([1, -1, -1, 1, 1, -1, -1, 1]),
            height / 2 * np.array([1, 1, -1, -1, 1, 1, -1, -1]),
        )
    )
    rotation = rotation_matrices(racks.rotation[rack : rack + 1])[0]
    return np.dot(rotation, corners) + racks.translation[rack][:, None]


def _contains(corners: Floats, place: Floats) -> bool:
    """Whether a box with its surface holds a point: its projections lie within three edges.

    One point at a time, and in the devkit's shapes, for its last bits: a closed box is asked for
    points that lie exactly on its surface.
    """
    origin = corners[:, 0]
    offset = place.reshape(3, 1) - origin.reshape(-1, 1)
    for corner in (4, 1, 3):
        edge = corners[:, corner] - origin
        along = np.dot(edge, offset)
        if not (0 <= along[0] <= np.dot(edge, edge)):
            return False
    return True
