"""Whether scores mean what they say: how often boxes of some score are right.

Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599, section 2: the expected
calibration error. A box is right if it found a true box at the distance that errors are taken at.
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
    """Scores of one class, or of all, in bins of equal width from 0 to 1."""

    name: str
    count: NDArray[np.int64]  # (B,) boxes
    confidence: NDArray[np.float64]  # (B,) their mean score, NaN where there is none
    precision: NDArray[np.float64]  # (B,) share of them that are right, NaN where there is none

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of precision from score over the boxes; NaN where there are none."""
        total = self.count.sum()
        gap = np.nansum(self.count * np.abs(self.precision - self.confidence))
        return float(gap / total) if total else float("nan")


def reliabilities(
    predictions: BoxColumns,
    truth: GroundTruth,
    config: MetricConfig | None = None,
    bins: int = BINS,
) -> tuple[Reliability, ...]:
    """Of all boxes together, then of each class.

    Boxes of a class without true boxes are all wrong. Scores above 1 count in the last bin.
    """
    config = config or MetricConfig()
    predictions = predictions.of_samples(truth.boxes.sample_tokens)
    found, wanted = scored_boxes(predictions, truth, config)
    distance = config.distances_m.index(config.error_distance_m)
    right = np.zeros(len(predictions), dtype=np.bool_)
    for matches in match_classes(found, wanted, config).values():
        if matches is not None:
            right[matches.prediction[matches.matches.prediction[distance]]] = True
    of_class = found.by_label()
    classes = [(name, of_class[DETECTION_CLASSES.index(name)].rows) for name in config.class_names]
    return tuple(
        _reliability(name, predictions.score[rows], right[rows], bins)
        for name, rows in [(ALL, found.rows), *classes]
    )


def _reliability(
    name: str, score: NDArray[np.float64], right: NDArray[np.bool_], bins: int
) -> Reliability:
    place = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(place, weights=values, minlength=bins)
        return np.divide(sums, count, out=np.full(bins, np.nan), where=count > 0)

    return Reliability(
        name=name, count=count, confidence=mean(score), precision=mean(right.astype(np.float64))
    )
