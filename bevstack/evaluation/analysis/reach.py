"""Recall and errors of place by distance and visibility, for boxes that see something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.analysis.conditions import Conditions, band_names, bands
from bevstack.evaluation.analysis.sight import NOTHING, Floats, see
from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.tables.names import VISIBILITY_LEVELS


class Reach(NamedTuple):
    """Figures of the true boxes of one group; NaN where no box sees one."""

    family: str  # "all", "range" or "visibility"
    name: str
    objects: int
    seen: float  # share that a box sees
    range_error_m: float  # median of the absolute error along the line of sight
    lateral_error_m: float  # median across it
    within: tuple[float, ...]  # share of objects with a box within each matching distance


def reaches(
    predictions: BoxColumns,
    truth: GroundTruth,
    conditions: Conditions,
    config: MetricConfig | None = None,
) -> tuple[Reach, ...]:
    """Return figures of all scored objects, then by distance and by visibility.

    Groups without objects are left out.
    """
    config = config or MetricConfig()
    boxes = predictions.select_samples(truth.boxes.sample_tokens)
    own, wanted = scored_boxes(boxes, truth, config)
    found = see(boxes, truth, scored=(own.rows, wanted.rows)).prediction_of[wanted.rows]
    seen = found != NOTHING
    errors = _errors(boxes, truth, found, wanted.rows)
    names = band_names(max(config.class_range_m.values()))
    band = bands(truth.boxes, truth)[wanted.rows]
    level = conditions.visibility[wanted.rows]
    groups = [("all", "all", np.ones(len(seen), dtype=bool))]
    groups += [("range", name, band == number) for number, name in enumerate(names)]
    groups += [
        ("visibility", f"{name[1:]} %", level == number)
        for number, name in enumerate(VISIBILITY_LEVELS)
    ]
    return tuple(
        _reach(family, name, seen[inside], errors[inside], config.distances_m)
        for family, name, inside in groups
        if inside.any()
    )


def _errors(
    boxes: BoxColumns,
    truth: GroundTruth,
    found: NDArray[np.int64],  # (A,) row of a prediction, or NOTHING
    rows: NDArray[np.int64],  # (A,) of the true boxes
) -> Floats:  # (A, 2) along and across the line of sight, NaN where nothing sees the object
    ego = truth.ego_translation[truth.boxes.sample[rows], :2]
    true = truth.boxes.translation[rows, :2] - ego
    ahead = true / np.maximum(np.linalg.norm(true, axis=1, keepdims=True), 1e-6)
    if not len(boxes):
        return np.full((len(rows), 2), np.nan)
    apart = boxes.translation[found, :2] - ego - true
    across = np.stack((-ahead[:, 1], ahead[:, 0]), -1)
    errors: Floats = np.stack(((apart * ahead).sum(-1), (apart * across).sum(-1)), -1)
    errors[found == NOTHING] = np.nan
    return errors


def _reach(
    family: str,
    name: str,
    seen: NDArray[np.bool_],
    errors: Floats,
    distances_m: Sequence[float],
) -> Reach:
    found = np.abs(errors[seen])
    middle = np.median(found, axis=0) if len(found) else np.full(2, np.nan)
    far = np.linalg.norm(errors, axis=1)  # NaN is not within any distance
    within = tuple(float(np.mean(far <= distance)) for distance in distances_m)
    return Reach(
        family, name, len(seen), float(seen.mean()), float(middle[0]), float(middle[1]), within
    )
