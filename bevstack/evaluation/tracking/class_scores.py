"""Figures of one class at the 40 recall levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.tracking.accumulation import (
    MATCH,
    ClassPairs,
    Counts,
    Objects,
    accumulate,
    pair_class,
)
from bevstack.evaluation.tracking.track_columns import TrackColumns
from bevstack.evaluation.tracking.tracking_config import WORST_FIGURES, TrackingMetricConfig

Floats = NDArray[np.float64]

# Figures at each recall level, in the devkit's order of the summary.
LEVEL_FIGURES = (
    *("recall", "motar", "gt", "mota", "motp", "mt", "ml"),
    *("faf", "tp", "fp", "fn", "ids", "frag", "tid", "lgd"),
)
SAMPLE_PERIOD_S = 0.5  # assumed by the metric
MOSTLY_TRACKED, MOSTLY_LOST = 0.8, 0.2  # least and greatest share of tracked boxes


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Figures of a class by recall level, from recall 1 downwards; NaN: level not reached."""

    name: str
    confidence: Floats  # (L,) score threshold
    recall_level: Floats  # (L,) nominal recall
    figures: dict[str, Floats]  # (L,) by the names of LEVEL_FIGURES
    num_truth: int  # true boxes, added ones included

    @property
    def amota(self) -> float:
        """Return the mean of MOTAR over the levels; unreached ones count 0."""
        return self._mean("motar", WORST_FIGURES["amota"])

    @property
    def amotp(self) -> float:
        """Return the mean of MOTP over the levels, in metres; unreached ones count 2."""
        return self._mean("motp", WORST_FIGURES["amotp"])

    @property
    def best_level(self) -> int | None:
        """Return the level with the highest MOTA, of equal ones that of the highest recall."""
        mota = self.figures["mota"]
        return None if np.isnan(mota).all() else int(np.nanargmax(mota))

    @property
    def levels_reached(self) -> int:
        """Return the number of recall levels that the tracks reach."""
        return int(np.count_nonzero(~np.isnan(self.confidence)))

    def summary(self) -> dict[str, float]:
        """Return AMOTA, AMOTP and the figures at the best level, in the order of the summary."""
        best = self.best_level
        return {
            "amota": self.amota,
            "amotp": self.amotp,
            **{
                name: float("nan") if best is None else float(self.figures[name][best])
                for name in LEVEL_FIGURES
            },
        }

    def _mean(self, name: str, worst: float) -> float:
        values = self.figures[name]
        if np.isnan(values).all():
            return float("nan")
        return float(np.mean(np.where(np.isnan(values), worst, values)))


def score_class(
    name: str,
    predictions: TrackColumns,
    truth: TrackColumns,
    num_frames: int,
    config: TrackingMetricConfig,
) -> ClassScores:
    """Score the tracks of one class; without true boxes every figure is NaN.

    Raises:
        ValueError: more boxes than true ones take part in matches, which happens only if two boxes
            of a sample have the same identity.
    """
    unknown = np.full(config.num_levels, np.nan)
    confidence, levels = unknown, unknown
    figures = dict.fromkeys(LEVEL_FIGURES, unknown)
    if len(truth):
        pairs = pair_class(predictions, truth, num_frames)
        confidence, levels = thresholds(name, pairs, config)
        known = np.unique(confidence[~np.isnan(confidence)])
        if len(known):
            rows = {
                value: _figures(*accumulate(pairs, value, config.distance_m)[:2])
                for value in known.tolist()
            }
            nothing = dict.fromkeys(LEVEL_FIGURES, float("nan"))
            rows_by_level = [rows.get(value, nothing) for value in confidence.tolist()]
            figures = {f: np.array([row[f] for row in rows_by_level]) for f in LEVEL_FIGURES}
        else:
            worst = _worst(pairs)
            figures = {f: np.full(config.num_levels, worst[f]) for f in LEVEL_FIGURES}
    return ClassScores(
        name=name,
        confidence=confidence,
        recall_level=levels,
        figures=figures,
        num_truth=len(truth),
    )


def thresholds(
    name: str, pairs: ClassPairs, config: TrackingMetricConfig
) -> tuple[Floats, Floats]:  # (L,), (L,)
    """Return the score threshold of each recall level, from recall 1 downwards, and the levels.

    The threshold of a level that all matches together do not reach is NaN. Without any match, the
    levels are NaN too.

    Raises:
        ValueError: see ``score_class``.
    """
    scores, count = matched_scores(pairs, config), len(pairs.object)
    if len(scores) > count:
        raise ValueError(
            f"boxes of a sample must have different identities; got {len(scores)} matched boxes "
            f"of {name} for {count} true ones: give each box of a sample its own tracking_id"
        )
    return thresholds_by_level(scores, count, config)


def matched_scores(pairs: ClassPairs, config: TrackingMetricConfig) -> Floats:  # (K,)
    """Return the scores of the boxes that match if no score is too low."""
    kinds = accumulate(pairs, -np.inf, config.distance_m)[2]
    return pairs.score[_shares_match(pairs, kinds)]


def thresholds_by_level(
    scores: Floats,  # (K,) of matched boxes
    count: int,  # true boxes
    config: TrackingMetricConfig,
) -> tuple[Floats, Floats]:  # (L,), (L,)
    """Return the score threshold of each recall level, from recall 1 downwards, and the levels."""
    if not len(scores):
        unknown = np.full(config.num_levels, np.nan)
        return unknown, unknown
    scores = np.sort(scores)[::-1]
    recall = np.arange(1, len(scores) + 1) / count
    levels = config.recall_levels()
    values = np.interp(levels, recall, scores, right=0)
    values[levels > recall[-1]] = np.nan
    return values[::-1], levels[::-1]


def _shares_match(pairs: ClassPairs, kinds: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return True for each box that matches, or shares sample and identity with one that does."""
    frame = np.repeat(np.arange(len(pairs.start) - 1), np.diff(pairs.start))
    key = frame * pairs.num_tracks + pairs.track
    return np.isin(key, key[kinds == MATCH])


def _figures(counts: Counts, objects: Objects) -> dict[str, float]:
    """Return the figures at one threshold."""
    _, matches, switches, false_positives, misses, _ = counts
    total, paired = matches + switches + misses, matches + switches
    share = objects.tracked / objects.boxes
    ever = objects.tracked > 0
    errors = misses + switches + false_positives
    reached = matches / total
    excess = errors - (1 - reached) * total
    nan = float("nan")
    return {
        "recall": paired / total,
        "motar": max(0.0, 1 - excess / (reached * total)) if matches else nan,
        "gt": total,
        "mota": max(0.0, 1 - errors / total),
        "motp": counts.distance_m / paired if paired else nan,
        "mt": int(np.count_nonzero(share >= MOSTLY_TRACKED)),
        "ml": int(np.count_nonzero(share < MOSTLY_LOST)),
        "faf": false_positives / counts.frames * 100,
        "tp": matches,
        "fp": false_positives,
        "fn": misses,
        "ids": switches,
        "frag": int(objects.fragments.sum()),
        "tid": float(objects.delay[ever].mean() * SAMPLE_PERIOD_S) if ever.any() else nan,
        "lgd": float(objects.gap[ever].mean() * SAMPLE_PERIOD_S) if ever.any() else nan,
    }


def _worst(pairs: ClassPairs) -> dict[str, float]:
    """Return the figures of a class without a match: the worst ones, or NaN if undefined."""
    counted = {"ml": float(pairs.num_objects), "gt": len(pairs.object), "fn": len(pairs.object)}
    return {
        name: counted.get(name, float("nan")) if WORST_FIGURES[name] == -1 else WORST_FIGURES[name]
        for name in LEVEL_FIGURES
    }
