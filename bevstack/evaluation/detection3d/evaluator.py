"""The nuScenes detection metric on columns of boxes, equal to nuscenes-devkit 1.2 to the last bit.

Equality holds on one machine with one numpy: the devkit's last bits differ between processors.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.filtering import Filtered, ego_distances, filter_boxes
from bevstack.evaluation.detection3d.input_checks import check_devkit_rules, check_predictions
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import DetectionMetrics, summarise
from bevstack.evaluation.detection3d.precision_recall import (
    ClassMatches,
    Curve,
    Selection,
    class_curves,
    match_class,
)
from bevstack.vocabulary import DETECTION_CLASSES

HALF_TURN_CLASSES = ("barrier",)  # the heading of these classes is defined up to half a turn


def evaluate(
    predictions: BoxColumns,
    truth: GroundTruth,
    config: MetricConfig | None = None,
    *,
    strict: bool = False,
) -> DetectionMetrics:
    """Score predictions: filter predicted and true boxes, match them class by class, and average.

    Predictions of samples that the truth does not have are ignored. Without any prediction the
    score is 0, and ``no_predictions`` is set. If no true box counts, the score is 0 too, as in the
    devkit, and a warning gives the reason.

    Args:
        predictions: predicted boxes in the order of their file, which decides between equal scores.
        truth: true boxes in the order of the tables, which decides between equal distances.
        config: settings of the metric; None: ``detection_cvpr_2019``.
        strict: accept and refuse the same input as nuscenes-devkit. The devkit accepts negative
            scores as long as every true box is matched, boxes without volume that match nothing,
            and infinite values. It refuses predictions without a single box.

    Raises:
        ValueError: a prediction breaks a rule (the message names the first such box), or there is
            no true box.
    """
    config = config or MetricConfig()
    predictions = predictions.select_samples(truth.boxes.sample_tokens)
    check = check_devkit_rules if strict else check_predictions
    check(predictions, config)
    if not len(truth.boxes):
        raise ValueError(
            f"the {len(truth.boxes.sample_tokens)} scored samples must have true boxes of the "
            "detection classes; got none: choose another split"
        )
    selected = scored_boxes(predictions, truth, config)
    if not len(selected[1].rows):
        reason = why_none_counts(truth, config)
        warnings.warn(f"scores are 0 because no true box counts: {reason}", stacklevel=2)
    return evaluate_filtered(*selected, config, strict=strict)


def scored_boxes(
    predictions: BoxColumns,  # of the truth's sample_tokens
    truth: GroundTruth,
    config: MetricConfig,
) -> tuple[Selection, Selection]:
    """Return the predictions and the true boxes that the metric counts.

    Raises:
        ValueError: predictions and truth have different lists of samples.
    """
    if not np.array_equal(predictions.sample_tokens, truth.boxes.sample_tokens):
        raise ValueError(
            "predictions must have the truth's sample_tokens, in the same order; got a different "
            "list: renumber them with predictions.select_samples(truth.boxes.sample_tokens)"
        )
    return (
        Selection(predictions, scored_rows(predictions, truth, config).rows),
        Selection(truth.boxes, scored_rows(truth.boxes, truth, config).rows),
    )


def scored_rows(boxes: BoxColumns, truth: GroundTruth, config: MetricConfig) -> Filtered:
    """Filter true or predicted boxes, whose sample rows index the truth's samples."""
    distance_m = ego_distances(boxes, truth.ego_translation)
    return filter_boxes(boxes, distance_m, truth.racks, config)


def why_none_counts(truth: GroundTruth, config: MetricConfig) -> str | None:
    """Return the reason why the metric counts none of the true boxes; None if it counts one."""
    filtered = scored_rows(truth.boxes, truth, config)
    if len(filtered.rows):
        return None
    if not filtered.near:
        return f"all {filtered.total} lie beyond the range of their class"
    if not filtered.with_points:
        return (
            f"the {filtered.near} of {filtered.total} within range have num_lidar_pts and "
            "num_radar_pts of 0 in sample_annotation.json, which removes them from the metric; "
            "if the points were not counted, give -1"
        )
    return f"the {filtered.with_points} boxes with points within range are in bicycle racks"


def evaluate_filtered(
    predictions: Selection,
    truth: Selection,  # of the same sample_tokens
    config: MetricConfig,
    *,
    strict: bool = False,
) -> DetectionMetrics:
    """Score boxes that are filtered already: every selected box counts.

    Raises:
        ValueError: a matched box without volume; with ``strict`` also a confidence that rises with
            recall, which negative scores cause.
    """
    curves = {
        name: class_curves(matches, len(config.distances_m))
        for name, matches in match_classes(predictions, truth, config).items()
    }
    if strict:
        _check_confidence(curves)
    return summarise(curves, config, no_predictions=not len(predictions.boxes))


def match_classes(
    predictions: Selection,
    truth: Selection,  # of the same sample_tokens
    config: MetricConfig,
) -> dict[str, ClassMatches | None]:
    """Match the boxes of each class, in the order of the summary.

    A class without true boxes gives None.

    Raises:
        ValueError: a matched box without volume; names its sample.
    """
    predictions_by_label, truth_by_label = predictions.by_label(), truth.by_label()
    matches: dict[str, ClassMatches | None] = {}
    for name in config.class_names:
        label = DETECTION_CLASSES.index(name)
        matches[name] = None
        if len(truth_by_label[label].rows):
            matches[name] = match_class(
                predictions_by_label[label],
                truth_by_label[label],
                config.distances_m,
                half_turn=name in HALF_TURN_CLASSES,
            )
    return matches


def _check_confidence(curves: Mapping[str, Sequence[Curve]]) -> None:
    """Check that the confidence of no curve rises with recall."""
    for name, curves_of_class in curves.items():
        for curve in curves_of_class:
            confidence = curve.confidence
            if not all(confidence == sorted(confidence, reverse=True)):
                raise ValueError(
                    f"confidence of {name} must not rise with recall; got "
                    f"{confidence[np.argmax(np.diff(confidence)) + 1]} after lower ones: scores "
                    "must not be negative"
                )
