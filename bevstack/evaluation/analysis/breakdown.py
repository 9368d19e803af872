"""The metric by circumstances: range, visibility, direction, motion, light and weather.

Boxes are matched once, all with all. A prediction that found a true box counts in the group of that
box; one that found none, in the group it would itself belong to, and in every group of a property
that predictions do not have (visibility). So no group is charged for boxes found in another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.analysis.conditions import (
    Circumstances,
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
    """Some of the boxes."""

    family: str  # such as "range"
    name: str  # such as "0-10 m"
    truth: Mask  # (A,)
    predictions: Mask  # (M,)


@dataclass(frozen=True, kw_only=True)
class GroupMetrics:
    """The figures of one group, over the classes that have true boxes in it."""

    family: str
    name: str
    num_truth: int
    classes: tuple[ClassMetrics, ...]  # those with true boxes in the group
    mean_average_precision: float  # over them; NaN if there is none
    errors: TruePositiveErrors  # likewise


def break_down(
    predictions: BoxColumns,  # of the truth's sample_tokens
    truth: GroundTruth,
    circumstances: Circumstances,
    config: MetricConfig | None = None,
) -> tuple[GroupMetrics, ...]:
    """The figures of every group, family by family; the first is "all".

    mAP and errors are means over the classes that have true boxes in the group, so that groups
    without some rare class can be compared with others; "all" differs in that from the official
    mAP where a class has no true box.
    """
    config = config or MetricConfig()
    predictions = predictions.of_samples(truth.boxes.sample_tokens)
    found, wanted = scored_boxes(predictions, truth, config)
    matches = match_classes(found, wanted, config)
    return tuple(
        _figures(group, matches, config)
        for group in groups(predictions, truth, circumstances, config)
    )


def groups(
    predictions: BoxColumns,
    truth: GroundTruth,
    circumstances: Circumstances,
    config: MetricConfig,
) -> Iterator[Group]:
    """All groups, family by family."""
    everything = [np.ones(len(boxes), dtype=np.bool_) for boxes in (truth.boxes, predictions)]
    yield Group("all", "all", *everything)
    both = (truth.boxes, predictions)
    names = band_names(max(config.class_range_m.values()))
    yield from _numbered("range", names, *(bands(boxes, truth) for boxes in both))
    visibility = circumstances.visibility
    for number, name in enumerate(VISIBILITY_LEVELS):
        yield Group("visibility", f"{name[1:]} %", visibility == number, everything[1])
    cameras = circumstances.cameras
    by_camera = (sectors(boxes, truth, circumstances) for boxes in both)
    yield from _numbered("camera", cameras, *by_camera)
    yield from _numbered("motion", ("standing", "moving"), *map(motion, both))
    for family, names, dark in (
        ("light", ("day", "night"), circumstances.night),
        ("weather", ("dry", "rain"), circumstances.rain),
    ):
        of_sample = dark[circumstances.scene].astype(np.int64)
        yield from _numbered(family, names, *(of_sample[boxes.sample] for boxes in both))


def _numbered(
    family: str,
    names: Sequence[str],
    of_truth: NDArray[np.int64],
    of_predictions: NDArray[np.int64],
) -> Iterator[Group]:
    for number, name in enumerate(names):
        yield Group(family, name, of_truth == number, of_predictions == number)


def _figures(
    group: Group, matches: dict[str, ClassMatches | None], config: MetricConfig
) -> GroupMetrics:
    curves, present = {}, []
    for name, of_class in matches.items():
        curves[name] = [no_predictions()] * len(config.distances_m)
        if of_class is None or not group.truth[of_class.truth].any():
            continue
        present.append(name)
        inside = group.truth[of_class.truth], group.predictions[of_class.prediction]
        curves[name] = [group_curve(of_class, d, *inside) for d in range(len(config.distances_m))]
    classes = [found for found in summarise(curves, config).classes if found.name in present]
    errors = np.array([found.errors.values for found in classes]).reshape(-1, 5)
    rows = [of_class.truth for of_class in matches.values() if of_class is not None]
    return GroupMetrics(
        family=group.family,
        name=group.name,
        num_truth=sum(int(np.count_nonzero(group.truth[of_class])) for of_class in rows),
        classes=tuple(classes),
        mean_average_precision=_mean([found.average_precision for found in classes]),
        errors=TruePositiveErrors(*(_mean(column) for column in errors.T)),
    )


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    known = np.asarray(values)[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else float("nan")
