"""How sure figures are: intervals from drawing the scenes anew, and the difference of two models.

The samples of a scene resemble each other, so it is scenes that are drawn (with replacement, as
many as there are). A draw is a weight for each scene: the metric is computed with boxes counted as
often as their scene was drawn, from one matching for all draws. Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import match_classes, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import MISSING_ERRORS
from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES, NUM_RECALLS, ClassMatches

Floats = NDArray[np.float64]

DRAWS = 1000
LEVEL = 0.95
FEWEST_SCENES = 10  # of fewer an interval says little


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One figure and where it lies in the given share of the draws."""

    name: str
    value: float  # of the scenes as they are
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether zero lies outside: for a difference, whether it can be told from chance."""
        return self.low > 0 or self.high < 0


class Resampler:
    """The metric of one submission under any weights of the scenes.

    Args:
        predictions: of the truth's samples.
        truth: the true boxes.
        scene: (S,) which of the scenes each sample is of.
        config: the settings; none: ``detection_cvpr_2019``.
    """

    def __init__(
        self,
        predictions: BoxColumns,
        truth: GroundTruth,
        *,
        scene: NDArray[np.int32],
        config: MetricConfig | None = None,
    ) -> None:
        self._config = config or MetricConfig()
        self.num_scenes = int(scene.max()) + 1
        predictions = predictions.of_samples(truth.boxes.sample_tokens)
        chosen = scored_boxes(predictions, truth, self._config)
        scenes = (scene[predictions.sample], scene[truth.boxes.sample])
        self._classes = {
            name: None if found is None else _Class(found, *scenes, self.num_scenes)
            for name, found in match_classes(*chosen, self._config).items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """What ``figures`` gives: NDS, mAP, the errors, and AP of each class."""
        return ("NDS", "mAP", *ERROR_NAMES, *(f"AP {name}" for name in self._classes))

    def figures(
        self,
        weights: NDArray[np.int64],  # (C,) how often each scene counts
    ) -> Floats:  # (F,)
        """The figures of ``names``."""
        config, count = self._config, len(self._config.distances_m)
        precisions, errors = [], []
        with_errors = config.distances_m.index(config.error_distance_m)
        for name, found in self._classes.items():
            of_class, own_errors = 0.0, np.ones(len(ERROR_NAMES))
            if found is not None:
                seen = found.weighed(weights)
                for distance in range(count):
                    hits = found.hits(seen, distance, config)
                    of_class += hits.precision / count
                    if distance == with_errors:
                        own_errors = found.mean_errors(hits, config)
            missing = [error in MISSING_ERRORS.get(name, ()) for error in ERROR_NAMES]
            precisions.append(of_class)
            errors.append(np.where(missing, np.nan, own_errors))
        means = np.nanmean(errors, axis=0)
        mean_ap = float(np.mean(precisions))
        total = config.mean_ap_weight * mean_ap + np.sum(np.maximum(1 - means, 0))
        nds = total / (config.mean_ap_weight + len(means))
        return np.array([nds, mean_ap, *means, *precisions])


def intervals(
    resampler: Resampler, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> tuple[Interval, ...]:
    """Percentile intervals of every figure; the same for the same seed."""
    drawn = [resampler.figures(weights) for weights in _weights(resampler, draws, seed)]
    return _intervals(resampler, resampler.figures(_ones(resampler)), np.stack(drawn), level)


def difference_intervals(
    first: Resampler,
    second: Resampler,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Interval, ...]:
    """Intervals of what the second has more than the first, over draws that both share.

    Shared draws take out how hard the scenes are, so that much smaller differences can be told from
    chance than by two intervals.
    """
    if first.num_scenes != second.num_scenes:
        raise ValueError(
            f"both submissions must be of the same scenes; got {first.num_scenes} and "
            f"{second.num_scenes}"
        )
    drawn = [
        second.figures(weights) - first.figures(weights) for weights in _weights(first, draws, seed)
    ]
    value = second.figures(_ones(second)) - first.figures(_ones(first))
    return _intervals(first, value, np.stack(drawn), level)


class _Seen(NamedTuple):
    weight: Floats  # (M,) of each prediction
    total: Floats  # (M,) weight up to and with it
    last: NDArray[np.int64]  # (M,) the last prediction of positive weight up to there, -1 for none
    num_truth: float


class _WeighedHits(NamedTuple):
    precision: float  # AP
    confidence: Floats  # (R,) over recall
    score: Floats  # (K,) of what was found
    weight: Floats  # (K,)
    pairs: NDArray[np.int64]  # (K,)


class _Class:
    """The matches of one class, with the scenes they lie in."""

    def __init__(self, matches: ClassMatches, *scenes: NDArray[np.int32] | int) -> None:
        of_predictions, of_truth, count = scenes
        assert isinstance(of_predictions, np.ndarray) and isinstance(of_truth, np.ndarray)
        self._matches = matches
        self._scene = of_predictions[matches.prediction]
        self._truth = np.bincount(of_truth[matches.truth], minlength=int(count))

    def weighed(self, weights: NDArray[np.int64]) -> _Seen:
        weight = weights.astype(np.float64)[self._scene]
        place = np.where(weight > 0, np.arange(len(weight)), -1)
        return _Seen(
            weight=weight,
            total=np.cumsum(weight),
            last=np.maximum.accumulate(place) if len(place) else place,
            num_truth=float(weights @ self._truth),
        )

    def hits(self, seen: _Seen, distance: int, config: MetricConfig) -> _WeighedHits:
        matches = self._matches.matches
        hits, pairs = matches.prediction[distance], matches.pair[distance]
        inside = seen.weight[hits] > 0
        hits, pairs = hits[inside], pairs[inside]
        weight, score = seen.weight[hits], self._matches.score
        if not len(hits):
            return _WeighedHits(0.0, np.zeros(NUM_RECALLS), score[hits], weight, pairs)
        found, seen_there = np.cumsum(weight), seen.total[hits]
        ends = seen.last[np.append(hits[1:], len(score)) - 1]  # of the runs of equal recall
        before = seen.last[hits[0] - 1] if hits[0] else -1
        recall = _pairs(found, found, before, 0.0) / seen.num_truth
        precision = _pairs(found / seen_there, found / seen.total[ends], before, 0.0)
        confidence = _pairs(score[hits], score[ends], before, score[before])
        at = np.linspace(0, 1, NUM_RECALLS)
        precision = np.interp(at, recall, precision, right=0)[_first(config) :]
        clipped = np.maximum(precision - config.min_precision, 0)
        return _WeighedHits(
            precision=float(np.mean(clipped)) / (1 - config.min_precision),
            confidence=np.interp(at, recall, confidence, right=0),
            score=score[hits],
            weight=weight,
            pairs=pairs,
        )

    def mean_errors(self, hits: _WeighedHits, config: MetricConfig) -> Floats:  # (5,)
        errors = np.ones(len(ERROR_NAMES))
        last = int(np.nonzero(hits.confidence)[0][-1]) if hits.confidence.any() else 0
        if last >= _first(config):
            sure, score = hits.confidence[_first(config) : last + 1], hits.score[::-1]
            for number, values in enumerate(self._matches.errors[:, hits.pairs]):
                means = _weighted_means(values, hits.weight)
                errors[number] = np.mean(np.interp(sure, score, means[::-1]))
        return errors


def _first(config: MetricConfig) -> int:
    """The first recall that counts."""
    return round(100 * config.min_recall) + 1


def _pairs(first: Floats, second: Floats, before: int, value: float) -> Floats:
    """Values at hits and at the ends of their runs, in turns; first that of the run before them."""
    pairs = np.stack((first, second), -1).ravel()
    return np.concatenate(((value,), pairs)) if before >= 0 else pairs


def _weighted_means(values: Floats, weight: Floats) -> Floats:
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    sums = np.cumsum(np.where(known, values * weight, 0.0))
    counts = np.cumsum(np.where(known, weight, 0.0))
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts != 0)


def _weights(resampler: Resampler, draws: int, seed: int) -> list[NDArray[np.int64]]:
    generator, count = np.random.default_rng(seed), resampler.num_scenes
    drawn = generator.integers(0, count, (draws, count))
    return [np.bincount(row, minlength=count) for row in drawn]


def _ones(resampler: Resampler) -> NDArray[np.int64]:
    return np.ones(resampler.num_scenes, dtype=np.int64)


def _intervals(
    resampler: Resampler, value: Floats, drawn: Floats, level: float
) -> tuple[Interval, ...]:
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(drawn, [tail, 100 - tail], axis=0)
    columns: Sequence[Floats] = (value, low, high)
    return tuple(
        Interval(name=name, value=float(v), low=float(a), high=float(b))
        for name, v, a, b in zip(resampler.names, *columns, strict=True)
    )
