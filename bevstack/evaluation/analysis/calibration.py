"""Calibration of scores: precision of the boxes as a function of their score.

Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599, section 2: the expected
calibration error. A box is correct if it matches a true box within ``error_distance_m``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import match_classes, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.vocabulary import DETECTION_CLASSES

BINS = 15
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Scores and precision of one class, or of all classes, in bins of equal width from 0 to 1."""

    name: str
    count: NDArray[np.int64]  # (B,) number of boxes
    confidence: NDArray[np.float64]  # (B,) mean score; NaN in an empty bin
    precision: NDArray[np.float64]  # (B,) share of correct boxes; NaN in an empty bin

    @property
    def expected_calibration_error(self) -> float:
        """Return the mean over the boxes of abs(precision - score); NaN if there are no boxes."""
        total = self.count.sum()
        gap = np.nansum(self.count * np.abs(self.precision - self.confidence))
        return float(gap / total) if total else float("nan")


def reliabilities(
    predictions: BoxColumns,
    truth: GroundTruth,
    config: MetricConfig | None = None,
    bins: int = BINS,
) -> tuple[Reliability, ...]:
    """Return the reliability of all boxes together, then of each class.

    Every box of a class without true boxes is wrong. Scores above 1 count in the last bin.
    """
    config = config or MetricConfig()
    predictions = predictions.select_samples(truth.boxes.sample_tokens)
    scored, scored_truth = scored_boxes(predictions, truth, config)
    distance = config.distances_m.index(config.error_distance_m)
    correct = np.zeros(len(predictions), dtype=np.bool_)
    for matches in match_classes(scored, scored_truth, config).values():
        if matches is not None:
            correct[matches.prediction[matches.matches.prediction[distance]]] = True
    by_label = scored.by_label()
    classes = [(name, by_label[DETECTION_CLASSES.index(name)].rows) for name in config.class_names]
    return tuple(
        reliability(name, predictions.score[rows], correct[rows], bins)
        for name, rows in [(ALL, scored.rows), *classes]
    )


def reliability(
    name: str,
    score: NDArray[np.float64],  # (M,) 0 to 1
    correct: NDArray[np.bool_],  # (M,)
    bins: int = BINS,
) -> Reliability:
    """Sort boxes into bins by score and compute mean score and precision of each bin."""
    bin_index = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(bin_index, minlength=bins)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(bin_index, weights=values, minlength=bins)
        return np.divide(sums, count, out=np.full(bins, np.nan), where=count > 0)

    return Reliability(
        name=name, count=count, confidence=mean(score), precision=mean(correct.astype(np.float64))
    )
