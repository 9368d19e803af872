"""The nuScenes detection metric on columns of boxes, equal to nuscenes-devkit 1.2 to the last bit.

The claim holds for one machine and one numpy: the devkit's own last bits differ between processors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.filtering import Filtered, ego_distances, filter_boxes
from bevstack.evaluation.detection3d.input_checks import check_devkit_rules, check_predictions
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import DetectionMetrics, summarise
from bevstack.evaluation.detection3d.precision_recall import (
    Chosen,
    ClassMatches,
    Curve,
    class_curves,
    match_class,
)
from bevstack.vocabulary import DETECTION_CLASSES

HALF_TURN_CLASSES = ("barrier",)  # whose headings are known up to half a turn


def evaluate(
    predictions: BoxColumns,
    truth: GroundTruth,
    config: MetricConfig | None = None,
    *,
    strict: bool = False,
) -> DetectionMetrics:
    """Scores predictions: filters both sides, matches class by class, and averages.

    Predictions of samples that the truth does not have are left out. Without one prediction the
    score is 0, and ``no_predictions`` is set.

    Args:
        predictions: in the order of their file, which decides between equal scores.
        truth: the true boxes, in the order of the tables, which decides between equal distances.
        config: the settings; none: ``detection_cvpr_2019``.
        strict: accept and refuse what nuscenes-devkit does. It takes negative scores as long as
            every true box is found, boxes without volume that match nothing, and infinite values;
            it refuses predictions without a single box.

    Raises:
        ValueError: predictions that break a rule, naming the first box; no true box at all.
    """
    config = config or MetricConfig()
    predictions = predictions.of_samples(truth.boxes.sample_tokens)
    check = check_devkit_rules if strict else check_predictions
    check(predictions, config)
    if not len(truth.boxes):
        raise ValueError(
            f"the {len(truth.boxes.sample_tokens)} scored samples must have true boxes of the "
            "detection classes; got none: choose another split"
        )
    return evaluate_filtered(*scored_boxes(predictions, truth, config), config, strict=strict)


def scored_boxes(
    predictions: BoxColumns,  # of the truth's sample_tokens
    truth: GroundTruth,
    config: MetricConfig,
) -> tuple[Chosen, Chosen]:
    """The predictions and the true boxes that count.

    Raises:
        ValueError: the predictions number other samples than the truth does.
    """
    if not np.array_equal(predictions.sample_tokens, truth.boxes.sample_tokens):
        raise ValueError(
            "predictions must be of the truth's sample_tokens, in their order; got others: "
            "renumber them with predictions.of_samples(truth.boxes.sample_tokens)"
        )
    return (
        Chosen(predictions, scored_rows(predictions, truth, config).rows),
        Chosen(truth.boxes, scored_rows(truth.boxes, truth, config).rows),
    )


def scored_rows(boxes: BoxColumns, truth: GroundTruth, config: MetricConfig) -> Filtered:
    """Which true or predicted boxes count, both of the truth's samples."""
    distance_m = ego_distances(boxes, truth.ego_translation)
    return filter_boxes(boxes, distance_m, truth.racks, config)


def evaluate_filtered(
    predictions: Chosen,
    truth: Chosen,  # of the same sample_tokens
    config: MetricConfig,
    *,
    strict: bool = False,
) -> DetectionMetrics:
    """Scores the chosen boxes, every one of which counts.

    Raises:
        ValueError: a matched box without volume; with ``strict`` also a confidence that rises with
            recall, as negative scores make it.
    """
    curves = {
        name: class_curves(matches, len(config.distances_m))
        for name, matches in match_classes(predictions, truth, config).items()
    }
    if strict:
        _check_confidence(curves)
    return summarise(curves, config, no_predictions=not len(predictions.boxes))


def match_classes(
    predictions: Chosen,
    truth: Chosen,  # of the same sample_tokens
    config: MetricConfig,
) -> dict[str, ClassMatches | None]:
    """What was found of each class, in the order of the summary; None of one without true boxes.

    Raises:
        ValueError: a matched box without volume, naming its sample.
    """
    found, wanted = predictions.by_label(), truth.by_label()
    matches: dict[str, ClassMatches | None] = {}
    for name in config.class_names:
        label = DETECTION_CLASSES.index(name)
        matches[name] = None
        if len(wanted[label].rows):
            matches[name] = match_class(
                found[label], wanted[label], config.distances_m, half_turn=name in HALF_TURN_CLASSES
            )
    return matches


def _check_confidence(curves: Mapping[str, Sequence[Curve]]) -> None:
    for name, of_class in curves.items():
        for found in of_class:
            confidence = found.confidence
            if not all(confidence == sorted(confidence, reverse=True)):
                raise ValueError(
                    f"confidence of {name} must not rise with recall; got "
                    f"{confidence[np.argmax(np.diff(confidence)) + 1]} after lower ones: scores "
                    "must not be negative"
                )
