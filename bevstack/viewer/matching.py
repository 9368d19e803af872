"""Matches of results with the truth, sample by sample, by the metric's own matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import match_classes, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES
from bevstack.viewer.moment import NO_MATCH, BoxPairs, Flags, Floats, Indices


@dataclass(frozen=True)
class MatchedResults:
    """Predicted boxes of many samples with the matches of the detection metric.

    Rows index ``predicted`` and ``truth.boxes``, which have the same list of samples.
    """

    predicted: BoxColumns
    truth: GroundTruth
    distances_m: tuple[float, ...]  # L
    matched_truth: Indices  # (L, M) row of the true box of each predicted box, or NO_MATCH
    matched_prediction: Indices  # (L, K) row of the predicted box of each true box, or NO_MATCH
    errors: Floats  # (L, 5, M) NaN without a match
    predicted_counted: Flags  # (M,) the metric counts the box
    true_counted: Flags  # (K,)

    def pairs(self, predicted_rows: Indices, true_rows: Indices) -> BoxPairs:
        """Return the matches of one sample's boxes, numbered by their place in the rows."""
        truth_places = _places(true_rows, len(self.truth.boxes))
        prediction_places = _places(predicted_rows, len(self.predicted))
        return BoxPairs(
            distances_m=self.distances_m,
            truth=truth_places[self.matched_truth[:, predicted_rows]],
            prediction=prediction_places[self.matched_prediction[:, true_rows]],
            errors=self.errors[:, :, predicted_rows],
        )

    def num_errors(self, distance: int, min_score: float) -> Indices:  # (S,)
        """Return the number of errors of each sample if boxes of lower scores are left out."""
        count = len(self.truth.boxes.sample_tokens)
        shown = self.predicted.score >= min_score
        free = self.matched_truth[distance] == NO_MATCH
        false = self.predicted.sample[self.predicted_counted & free & shown]
        prediction = self.matched_prediction[distance]
        found = prediction != NO_MATCH
        found[found] = shown[prediction[found]]
        missed = self.truth.boxes.sample[self.true_counted & ~found]
        errors = np.bincount(false, minlength=count) + np.bincount(missed, minlength=count)
        return errors.astype(np.int64)


def match_results(
    predicted: BoxColumns, truth: GroundTruth, config: MetricConfig | None = None
) -> MatchedResults:
    """Match predicted with true boxes, class by class and best first, as the metric does.

    Args:
        predicted: boxes in the order of their file; those of unknown samples are left out.
        truth: true boxes of the samples.
        config: settings of the metric; None: ``detection_cvpr_2019``.

    Raises:
        ValueError: a matched box without volume; names its sample.
    """
    config = config or MetricConfig()
    predicted = predicted.select_samples(truth.boxes.sample_tokens)
    selected, true_selected = scored_boxes(predicted, truth, config)
    levels = len(config.distances_m)
    matched_truth = np.full((levels, len(predicted)), NO_MATCH, np.int64)
    matched_prediction = np.full((levels, len(truth.boxes)), NO_MATCH, np.int64)
    errors = np.full((levels, len(ERROR_NAMES), len(predicted)), np.nan)
    for matches in match_classes(selected, true_selected, config).values():
        if matches is None:
            continue
        for level in range(levels):
            ranks, pairs = matches.matches.prediction[level], matches.matches.pair[level]
            rows = matches.prediction[ranks]
            true_rows = matches.truth[matches.matched_truth[pairs]]
            matched_truth[level, rows] = true_rows
            matched_prediction[level, true_rows] = rows
            errors[level][:, rows] = matches.errors[:, pairs]
    return MatchedResults(
        predicted=predicted,
        truth=truth,
        distances_m=config.distances_m,
        matched_truth=matched_truth,
        matched_prediction=matched_prediction,
        errors=errors,
        predicted_counted=_flags(selected.rows, len(predicted)),
        true_counted=_flags(true_selected.rows, len(truth.boxes)),
    )


def _flags(rows: Indices, count: int) -> Flags:
    flags = np.zeros(count, np.bool_)
    flags[rows] = True
    return flags


def _places(rows: Indices, count: int) -> Indices:
    """Return the place of each row in a list of rows; the last entry, for NO_MATCH, stays."""
    places = np.full(count + 1, NO_MATCH, np.int64)
    places[rows] = np.arange(len(rows))
    return places
