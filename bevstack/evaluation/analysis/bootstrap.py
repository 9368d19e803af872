"""Bootstrap intervals of the metrics, and of the difference between two models.

Samples of one scene resemble each other, so the bootstrap resamples whole scenes: it draws as many
scenes as there are, with replacement. One draw gives each scene a weight, the number of times it
was drawn, and every box counts with the weight of its scene. All draws share one matching. Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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
FEWEST_SCENES = 10  # with fewer scenes an interval is not reliable, and nothing is called better


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Value of one figure, and the bounds that contain the given share of the draws."""

    name: str
    value: float  # with each scene counted once
    low: float
    high: float
    num_scenes: int  # that were drawn from

    @property
    def excludes_zero(self) -> bool:
        """Return True if zero lies outside."""
        return self.low > 0 or self.high < 0

    @property
    def is_beyond_chance(self) -> bool:
        """Return True for a difference that is unlikely to be chance, from enough scenes.

        With few scenes the draws are too alike: with a single one, every interval is a point.
        """
        return self.excludes_zero and self.num_scenes >= FEWEST_SCENES


class SceneFigures(Protocol):
    """Figures as a function of the scenes' weights."""

    num_scenes: int

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the F figures."""

    def figures(
        self,
        weights: NDArray[np.int64],  # (C,) number of times that each scene counts
    ) -> Floats:  # (F,)
        """Compute the figures listed in ``names``."""


class Resampler:
    """The detection metric of one submission as a function of the scenes' weights.

    Args:
        predictions: the predicted boxes; boxes of samples that the truth does not have are ignored.
        truth: the true boxes.
        scene: (S,) index of each sample's scene.
        config: settings of the metric; None: ``detection_cvpr_2019``.
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
        predictions = predictions.select_samples(truth.boxes.sample_tokens)
        scored = scored_boxes(predictions, truth, self._config)
        scenes = (scene[predictions.sample], scene[truth.boxes.sample])
        self._classes = {
            name: None if matches is None else _ClassResampler(matches, *scenes, self.num_scenes)
            for name, matches in match_classes(*scored, self._config).items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``: NDS, mAP, the five errors, and AP of each class."""
        return ("NDS", "mAP", *ERROR_NAMES, *(f"AP {name}" for name in self._classes))

    def figures(
        self,
        weights: NDArray[np.int64],  # (C,) number of times that each scene counts
    ) -> Floats:  # (F,)
        """Compute the figures listed in ``names``."""
        config, count = self._config, len(self._config.distances_m)
        precisions, errors = [], []
        error_distance = config.distances_m.index(config.error_distance_m)
        for name, resampler in self._classes.items():
            average_precision, class_errors = 0.0, np.ones(len(ERROR_NAMES))
            if resampler is not None:
                weighted = resampler.weight_predictions(weights)
                for distance in range(count):
                    curve = resampler.weighted_curve(weighted, distance, config)
                    average_precision += curve.average_precision / count
                    if distance == error_distance:
                        class_errors = resampler.mean_errors(curve, config)
            missing = [error in MISSING_ERRORS.get(name, ()) for error in ERROR_NAMES]
            precisions.append(average_precision)
            errors.append(np.where(missing, np.nan, class_errors))
        means = np.nanmean(errors, axis=0)
        mean_ap = float(np.mean(precisions))
        total = config.mean_ap_weight * mean_ap + np.sum(np.maximum(1 - means, 0))
        nds = total / (config.mean_ap_weight + len(means))
        return np.array([nds, mean_ap, *means, *precisions])


def intervals(
    resampler: SceneFigures, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> tuple[Interval, ...]:
    """Return percentile intervals of every figure; equal seeds give equal intervals."""
    drawn = [resampler.figures(weights) for weights in _weights(resampler, draws, seed)]
    return _intervals(resampler, resampler.figures(_ones(resampler)), np.stack(drawn), level)


def difference_intervals(
    first: SceneFigures,
    second: SceneFigures,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[Interval, ...]:
    """Return intervals of the differences "second minus first", over draws that both share.

    With shared draws the difficulty of the scenes cancels out, so much smaller differences are
    detected than with two separate intervals. Two infinite values of one sign differ by 0.

    Raises:
        ValueError: the two resamplers have different numbers of scenes.
    """
    if first.num_scenes != second.num_scenes:
        raise ValueError(
            f"both submissions must cover the same scenes; got {first.num_scenes} and "
            f"{second.num_scenes}"
        )
    drawn = [
        _minus(second.figures(weights), first.figures(weights))
        for weights in _weights(first, draws, seed)
    ]
    value = _minus(second.figures(_ones(second)), first.figures(_ones(first)))
    return _intervals(first, value, np.stack(drawn), level)


class _WeightedPredictions(NamedTuple):
    weight: Floats  # (M,) of each prediction
    cumulative: Floats  # (M,) sum of the weights up to and including each prediction
    last: NDArray[np.int64]  # (M,) row of the last prediction with positive weight so far; else -1
    num_truth: float


class _WeightedCurve(NamedTuple):
    average_precision: float
    confidence: Floats  # (R,) over recall
    score: Floats  # (K,) of the true positives
    weight: Floats  # (K,)
    pairs: NDArray[np.int64]  # (K,)


class _ClassResampler:
    """The matches of one class, with the scene of each prediction and of each true box."""

    def __init__(self, matches: ClassMatches, *scenes: NDArray[np.int32] | int) -> None:
        prediction_scenes, truth_scenes, count = scenes
        assert isinstance(prediction_scenes, np.ndarray) and isinstance(truth_scenes, np.ndarray)
        self._matches = matches
        self._scene = prediction_scenes[matches.prediction]
        self._truth = np.bincount(truth_scenes[matches.truth], minlength=int(count))

    def weight_predictions(self, weights: NDArray[np.int64]) -> _WeightedPredictions:
        """Give each prediction the weight of its scene."""
        weight = weights.astype(np.float64)[self._scene]
        row = np.where(weight > 0, np.arange(len(weight)), -1)
        return _WeightedPredictions(
            weight=weight,
            cumulative=np.cumsum(weight),
            last=np.maximum.accumulate(row) if len(row) else row,
            num_truth=float(weights @ self._truth),
        )

    def weighted_curve(
        self, predictions: _WeightedPredictions, distance: int, config: MetricConfig
    ) -> _WeightedCurve:
        """Compute AP and confidence over recall at one matching distance, given by its index."""
        matches = self._matches.matches
        hits, pairs = matches.prediction[distance], matches.pair[distance]
        inside = predictions.weight[hits] > 0
        hits, pairs = hits[inside], pairs[inside]
        weight, score = predictions.weight[hits], self._matches.score
        if not len(hits):
            return _WeightedCurve(0.0, np.zeros(NUM_RECALLS), score[hits], weight, pairs)
        matched, predicted = np.cumsum(weight), predictions.cumulative[hits]
        # Recall stays constant from a hit up to the next one: the last row of each such run.
        ends = predictions.last[np.append(hits[1:], len(score)) - 1]
        before = predictions.last[hits[0] - 1] if hits[0] else -1
        recall = _interleave(matched, matched, before, 0.0) / predictions.num_truth
        precision = _interleave(
            matched / predicted, matched / predictions.cumulative[ends], before, 0.0
        )
        confidence = _interleave(score[hits], score[ends], before, score[before])
        recalls = np.linspace(0, 1, NUM_RECALLS)
        precision = np.interp(recalls, recall, precision, right=0)[_first_recall(config) :]
        clipped = np.maximum(precision - config.min_precision, 0)
        return _WeightedCurve(
            average_precision=float(np.mean(clipped)) / (1 - config.min_precision),
            confidence=np.interp(recalls, recall, confidence, right=0),
            score=score[hits],
            weight=weight,
            pairs=pairs,
        )

    def mean_errors(self, curve: _WeightedCurve, config: MetricConfig) -> Floats:  # (5,)
        """Average the five errors over the recalls that count; 1 if none of them was reached."""
        errors = np.ones(len(ERROR_NAMES))
        last = int(np.nonzero(curve.confidence)[0][-1]) if curve.confidence.any() else 0
        if last >= _first_recall(config):
            confidence = curve.confidence[_first_recall(config) : last + 1]
            score = curve.score[::-1]
            for number, values in enumerate(self._matches.errors[:, curve.pairs]):
                means = _weighted_means(values, curve.weight)
                errors[number] = np.mean(np.interp(confidence, score, means[::-1]))
        return errors


def _first_recall(config: MetricConfig) -> int:
    """Return the index of the first recall that counts."""
    return round(100 * config.min_recall) + 1


def _interleave(at_hits: Floats, at_ends: Floats, before: int, value: float) -> Floats:
    """Merge the values at hits, in turn, with those at the ends of the runs that the hits start.

    ``value`` goes first if there are predictions before the first hit (``before`` is not -1).
    """
    pairs = np.stack((at_hits, at_ends), -1).ravel()
    return np.concatenate(((value,), pairs)) if before >= 0 else pairs


def _weighted_means(values: Floats, weight: Floats) -> Floats:
    """Return the weighted mean of the values up to each row, without NaN; ones if all are NaN."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    sums = np.cumsum(np.where(known, values * weight, 0.0))
    counts = np.cumsum(np.where(known, weight, 0.0))
    means: Floats = np.divide(sums, counts, out=np.zeros_like(sums), where=counts != 0)
    return means


def _weights(resampler: SceneFigures, draws: int, seed: int) -> list[NDArray[np.int64]]:
    """Draw the weights of the scenes: for each draw, the number of times each scene was drawn."""
    generator, count = np.random.default_rng(seed), resampler.num_scenes
    scenes = generator.integers(0, count, (draws, count))
    return [np.bincount(row, minlength=count) for row in scenes]


def _minus(second: Floats, first: Floats) -> Floats:
    """Return the difference; 0 for equal values, also for infinite ones."""
    equal = second == first
    return np.where(equal, 0.0, np.where(equal, 0.0, second) - np.where(equal, 0.0, first))


def _ones(resampler: SceneFigures) -> NDArray[np.int64]:
    """Return the weights that count each scene once."""
    return np.ones(resampler.num_scenes, dtype=np.int64)


def _intervals(
    resampler: SceneFigures, value: Floats, drawn: Floats, level: float
) -> tuple[Interval, ...]:
    """Return the interval of each figure from its values in all draws, (draws, F)."""
    tail = 50 * (1 - level)
    known = ~np.isnan(drawn).all(axis=0)  # figures that some draw defines
    infinite = np.isinf(drawn).any(axis=0)
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    if (known & ~infinite).any():
        finite = drawn[:, known & ~infinite]
        bounds = np.nanpercentile(finite, [tail, 100 - tail], axis=0)
        low[known & ~infinite], high[known & ~infinite] = bounds
    for column in np.flatnonzero(infinite):  # between infinite values nothing can be interpolated
        ordered = np.sort(drawn[~np.isnan(drawn[:, column]), column])
        last = len(ordered) - 1
        low[column] = ordered[int(np.floor(tail / 100 * last))]
        high[column] = ordered[int(np.ceil((1 - tail / 100) * last))]
    columns: Sequence[Floats] = (value, low, high)
    return tuple(
        Interval(
            name=name,
            value=float(v),
            low=float(a),
            high=float(b),
            num_scenes=resampler.num_scenes,
        )
        for name, v, a, b in zip(resampler.names, *columns, strict=True)
    )
