"""The tracking metric as a function of the scenes' weights, for bootstrap intervals.

Matching remembers nothing from one scene to the next, so its counts at a threshold are sums over
scenes. Within a scene they change only at the scores of its boxes. The counts at all of these are
computed once; a draw of scenes then only chooses thresholds and adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.tracking.accumulation import ClassPairs, accumulate, pair_class
from bevstack.evaluation.tracking.class_scores import matched_scores, thresholds_by_level
from bevstack.evaluation.tracking.interpolation import with_filled_holes, with_mean_scores
from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns
from bevstack.evaluation.tracking.track_truth import label_of
from bevstack.evaluation.tracking.tracking_config import (
    TRACKING_CLASSES,
    WORST_FIGURES,
    TrackingMetricConfig,
)

Floats = NDArray[np.float64]

FIGURES = ("AMOTA", "AMOTP", "recall", "MOTA", "IDS", "FRAG")
_SUMMED = ("IDS", "FRAG")  # over classes; the remaining are averaged
_NO_MATCH = np.array([WORST_FIGURES[name] for name in ("amota", "amotp", "recall", "mota")])


class TrackingResampler:
    """AMOTA and further figures of tracks as a function of the scenes' weights.

    Args:
        predictions: the predicted boxes that count, with their own scores.
        truth: the true boxes that count.
        frames: all samples of the scored scenes.
        config: settings of the metric; None: ``tracking_nips_2019``.
    """

    def __init__(
        self,
        predictions: TrackColumns,
        truth: TrackColumns,
        *,
        frames: Frames,
        config: TrackingMetricConfig | None = None,
    ) -> None:
        self._config = config or TrackingMetricConfig()
        starts = np.flatnonzero(np.diff(frames.scene, prepend=-1))
        self.num_scenes = len(starts)
        filled = with_filled_holes(with_mean_scores(predictions), frames)
        true_boxes = with_filled_holes(truth, frames)
        ends = np.append(starts[1:], len(frames))
        self._classes = {
            name: [
                _scene_counts(pairs, self._config)
                for pairs in _pairs_by_scene(filled, true_boxes, label_of(name), starts, ends)
            ]
            for name in TRACKING_CLASSES
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``: over all classes, and AMOTA of each class."""
        return (*FIGURES, *(f"AMOTA {name}" for name in TRACKING_CLASSES))

    def figures(
        self,
        weights: NDArray[np.int64],  # (C,) number of times that each scene counts
    ) -> Floats:  # (F,)
        """Compute the figures listed in ``names``; NaN without true boxes."""
        rows = np.stack(
            [_class_figures(scenes, weights, self._config) for scenes in self._classes.values()]
        )
        known = ~np.isnan(rows)
        totals = np.where(known, rows, 0.0).sum(0)
        with np.errstate(invalid="ignore"):  # no class has a true box: NaN
            means = totals / known.sum(0)
        is_sum = np.isin(FIGURES, _SUMMED)
        return np.concatenate((np.where(is_sum, totals, means), rows[:, 0]))


class _SceneCounts(NamedTuple):
    """Matching of one class in one scene at every threshold that differs."""

    num_truth: int
    matched: Floats  # (K,) scores of the boxes that match without a threshold
    scores: Floats  # (D,) distinct scores of the boxes, ascending
    counts: Floats  # (D + 1, 6) with the boxes of at least each score; the last row: without boxes


# Columns of the counts.
_MATCHES, _SWITCHES, _FALSE, _MISSES, _DISTANCE_M, _FRAGMENTS = range(6)


def _pairs_by_scene(
    predictions: TrackColumns,
    truth: TrackColumns,
    label: int,
    starts: NDArray[np.intp],  # (C,) first frame of each scene
    ends: NDArray[np.intp],  # (C,)
) -> Iterator[ClassPairs]:
    columns = [boxes[boxes.label == label] for boxes in (predictions, truth)]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        inside = [boxes[(boxes.frame >= start) & (boxes.frame < end)] for boxes in columns]
        own, true = (replace(boxes, frame=boxes.frame - start) for boxes in inside)
        yield pair_class(own, true, end - start)


def _scene_counts(pairs: ClassPairs, config: TrackingMetricConfig) -> _SceneCounts:
    scores = np.unique(pairs.score)
    rows = []
    for threshold in (*scores.tolist(), np.inf):
        counts, objects, _ = accumulate(pairs, threshold, config.distance_m)
        rows.append((*counts[1:], objects.fragments.sum()))
    return _SceneCounts(
        len(pairs.object), matched_scores(pairs, config), scores, np.array(rows, dtype=np.float64)
    )


def _class_figures(
    scenes: list[_SceneCounts], weights: NDArray[np.int64], config: TrackingMetricConfig
) -> Floats:  # (6,) in the order of FIGURES
    """Compute the figures of one class; see ``class_scores.ClassScores``."""
    drawn = [(scene, int(w)) for scene, w in zip(scenes, weights, strict=True) if w]
    num_truth = sum(scene.num_truth * weight for scene, weight in drawn)
    nan = float("nan")
    if not num_truth:
        return np.full(len(FIGURES), nan)
    matched = np.concatenate([np.repeat(scene.matched, weight) for scene, weight in drawn])
    confidence, _ = thresholds_by_level(matched, num_truth, config)
    reached = confidence[~np.isnan(confidence)]
    if not len(reached):
        return np.append(_NO_MATCH, (nan, nan))
    counts = np.zeros((len(reached), 6))
    for scene, weight in drawn:
        counts += weight * scene.counts[np.searchsorted(scene.scores, reached)]
    matches, false, misses = (counts[:, k] for k in (_MATCHES, _FALSE, _MISSES))
    paired = matches + counts[:, _SWITCHES]
    with np.errstate(invalid="ignore", divide="ignore"):  # a level without a match
        motar = np.where(matches > 0, np.maximum(0, 1 - false / matches), 0.0)
        motp = np.where(paired > 0, counts[:, _DISTANCE_M] / paired, WORST_FIGURES["motp"])
    mota = np.maximum(0, 1 - (misses + counts[:, _SWITCHES] + false) / num_truth)
    unreached = config.num_levels - len(reached)
    best = int(np.argmax(mota))
    return np.array(
        [
            motar.sum() / config.num_levels,
            (motp.sum() + unreached * WORST_FIGURES["amotp"]) / config.num_levels,
            paired[best] / num_truth,
            mota[best],
            counts[best, _SWITCHES],
            counts[best, _FRAGMENTS],
        ]
    )
