"""The detection metric by conditions: range, visibility, direction, motion, light and weather.

All boxes are matched once, without regard to groups. A matched prediction counts in the group of
its true box. An unmatched prediction counts in the group that it belongs to itself; for visibility,
which predictions do not have, in every group. So no group loses precision to a prediction that
matched a true box of another group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.analysis.conditions import (
    Conditions,
    band_names,
    bands,
    motion,
    sectors,
)
from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import match_classes, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import ClassMetrics, TruePositiveErrors, summarise
from bevstack.evaluation.detection3d.precision_recall import (
    ClassMatches,
    group_curve,
    no_predictions,
)
from bevstack.tables.names import VISIBILITY_LEVELS

Mask = NDArray[np.bool_]


class Group(NamedTuple):
    """Masks of the true and predicted boxes that belong to one group."""

    family: str  # such as "range"
    name: str  # such as "0-10 m"
    truth: Mask  # (A,)
    predictions: Mask  # (M,)


@dataclass(frozen=True, kw_only=True)
class GroupMetrics:
    """Metrics of one group, over the classes that have true boxes in it."""

    family: str
    name: str
    num_truth: int
    classes: tuple[ClassMetrics, ...]  # those with true boxes in the group
    mean_average_precision: float  # over them; NaN if there is none
    errors: TruePositiveErrors  # means over the same classes


def break_down(
    predictions: BoxColumns,  # of the truth's sample_tokens
    truth: GroundTruth,
    conditions: Conditions,
    config: MetricConfig | None = None,
) -> tuple[GroupMetrics, ...]:
    """Return the metrics of every group, family by family; the first group is "all".

    mAP and errors are means over the classes that have true boxes in the group. So groups without a
    rare class stay comparable. If a class has no true box at all, the mAP of "all" therefore
    differs from the official mAP, which counts that class as 0.
    """
    config = config or MetricConfig()
    predictions = predictions.select_samples(truth.boxes.sample_tokens)
    matches = match_classes(*scored_boxes(predictions, truth, config), config)
    return tuple(
        _group_metrics(group, matches, config)
        for group in groups(predictions, truth, conditions, config)
    )


def groups(
    predictions: BoxColumns,
    truth: GroundTruth,
    conditions: Conditions,
    config: MetricConfig,
) -> Iterator[Group]:
    """Yield all groups, family by family."""
    both = (truth.boxes, predictions)
    all_truth, all_predictions = (np.ones(len(boxes), dtype=np.bool_) for boxes in both)
    yield Group("all", "all", all_truth, all_predictions)
    names = band_names(max(config.class_range_m.values()))
    yield from _groups_by_index("range", names, *(bands(boxes, truth) for boxes in both))
    visibility = conditions.visibility
    for number, name in enumerate(VISIBILITY_LEVELS):
        yield Group("visibility", f"{name[1:]} %", visibility == number, all_predictions)
    cameras = conditions.cameras
    by_camera = (sectors(boxes, truth, conditions) for boxes in both)
    yield from _groups_by_index("camera", cameras, *by_camera)
    yield from _groups_by_index("motion", ("standing", "moving"), *map(motion, both))
    for family, names, scene_flags in (
        ("light", ("day", "night"), conditions.night),
        ("weather", ("dry", "rain"), conditions.rain),
    ):
        sample_index = scene_flags[conditions.scene].astype(np.int64)
        yield from _groups_by_index(family, names, *(sample_index[boxes.sample] for boxes in both))


def _groups_by_index(
    family: str,
    names: Sequence[str],
    truth_index: NDArray[np.int64],
    prediction_index: NDArray[np.int64],
) -> Iterator[Group]:
    """Yield one group for each name; each box belongs to the group of its index."""
    for number, name in enumerate(names):
        yield Group(family, name, truth_index == number, prediction_index == number)


def _group_metrics(
    group: Group, matches: dict[str, ClassMatches | None], config: MetricConfig
) -> GroupMetrics:
    """Compute the metrics of one group from the matches of all boxes."""
    curves, present = {}, []
    for name, class_matches in matches.items():
        curves[name] = [no_predictions()] * len(config.distances_m)
        if class_matches is None or not group.truth[class_matches.truth].any():
            continue
        present.append(name)
        inside = group.truth[class_matches.truth], group.predictions[class_matches.prediction]
        curves[name] = [
            group_curve(class_matches, d, *inside) for d in range(len(config.distances_m))
        ]
    classes = [metrics for metrics in summarise(curves, config).classes if metrics.name in present]
    errors = np.array([metrics.errors.values for metrics in classes]).reshape(-1, 5)
    truth_rows = [c.truth for c in matches.values() if c is not None]
    return GroupMetrics(
        family=group.family,
        name=group.name,
        num_truth=sum(int(np.count_nonzero(group.truth[rows])) for rows in truth_rows),
        classes=tuple(classes),
        mean_average_precision=_mean([metrics.average_precision for metrics in classes]),
        errors=TruePositiveErrors(*(_mean(column) for column in errors.T)),
    )


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else float("nan")
