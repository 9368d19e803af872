"""Matching of predictions with true elements and OpenLane-V2's average precision, on arrays.

A prediction looks once, at its nearest true element of the same group, the first of equally near
ones. If a prediction with a higher score has taken that element, it is a false positive, even if
another element is near (OpenLane-V2, arXiv 2304.10440, section 4.3).

Rows are in the order of the frames and, within a frame, of its list. Equal scores keep that order.
Recalls and precisions are float32, as in the official evaluation under numpy 1, whichever numpy is
installed: in float64 a recall of 7/10 lies below the level 0.7, and average precision gets lost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_MATCH = -1
RECALL_LEVELS = (np.arange(11) * 0.1).astype(np.float32)


class Pairs(NamedTuple):
    """Pairs of one true element and one prediction of the same group, sorted by prediction."""

    truth: Ints  # (N,) rows; ascending for each prediction
    prediction: Ints  # (N,) rows, ascending


class Nearest(NamedTuple):
    """The nearest true element of each prediction."""

    truth: Ints  # (P,) rows; NO_MATCH if the group has none, or a distance is undefined
    distance: Floats  # (P,); infinite without an element


def pairs_within_groups(
    truth_group: Ints,  # (T,) such as the frame, or frame and label
    prediction_group: Ints,  # (P,)
) -> Pairs:
    """Return all pairs of a true element and a prediction of one group."""
    order = np.argsort(truth_group, kind="stable")
    ascending = truth_group[order]
    first = np.searchsorted(ascending, prediction_group, side="left")
    count = np.searchsorted(ascending, prediction_group, side="right") - first
    prediction = np.repeat(np.arange(len(prediction_group)), count)
    within = np.arange(len(prediction)) - np.repeat(np.cumsum(count) - count, count)
    return Pairs(order[np.repeat(first, count) + within], prediction)


def find_nearest(
    pairs: Pairs,
    distance: Floats,  # (N,)
    num_predictions: int,
) -> Nearest:
    """Find the nearest true element of each prediction; the first one if several are as near.

    A prediction with an undefined distance (NaN) to any element of its group has no nearest one.
    """
    nearest = Nearest(
        np.full(num_predictions, NO_MATCH, np.int64), np.full(num_predictions, np.inf)
    )
    if not len(distance):
        return nearest
    starts = np.flatnonzero(np.diff(pairs.prediction, prepend=-1))
    least = np.minimum.reduceat(distance, starts)  # NaN if any is NaN
    counts = np.diff(starts, append=len(distance))
    rows = np.flatnonzero(distance == np.repeat(least, counts))
    predictions, first = np.unique(pairs.prediction[rows], return_index=True)
    nearest.truth[predictions] = pairs.truth[rows[first]]
    nearest.distance[predictions] = distance[rows[first]]
    return nearest


def match_nearest(
    nearest: Nearest,
    scores: Floats,  # (P,)
    threshold: float,
) -> Ints:  # (P,)
    """Return the true element that each prediction matches, or ``NO_MATCH``.

    Of the predictions that are nearer than the threshold to one nearest element, that with the
    highest score matches it; of equal scores, the first.
    """
    order = np.argsort(-scores, kind="stable")
    near = order[(nearest.distance < threshold)[order]]
    _, first = np.unique(nearest.truth[near], return_index=True)
    matches = np.full(len(scores), NO_MATCH, np.int64)
    matches[near[first]] = nearest.truth[near[first]]
    return matches


def box_distance(
    truth_px: NDArray[Any],  # (N, 4) left, top, right, bottom
    predicted_px: NDArray[Any],  # (N, 4)
) -> Floats:  # (N,)
    """Return 1 - IoU of pairs of boxes, computed in float32.

    Boxes are taken as given: a box with exchanged corners has a negative area if one side is
    exchanged. The distance is NaN if the union has no area.
    """
    truth, predicted = truth_px.astype(np.float32), predicted_px.astype(np.float32)
    low = np.maximum(truth[:, :2], predicted[:, :2])
    high = np.minimum(truth[:, 2:], predicted[:, 2:])
    inside = np.maximum(high - low, np.float32(0))
    intersection = inside[:, 0] * inside[:, 1]
    union = _area(predicted) + _area(truth) - intersection
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = intersection / union
    distance: Floats = 1.0 - overlap.astype(np.float64)
    return distance


def interpolated_precision(
    hits: Bools,  # (P,) True: the prediction is right; in order of descending score
    num_truth: int,
    weights: Ints | None = None,  # (P,) number of times that each prediction counts; None: once
) -> float:
    """Return the average precision over the 11 recalls 0, 0.1, ..., 1.

    The precision at a level is the highest one at any recall that is at least the level. Without
    predictions and true elements the average precision is 1; with either alone it is 0.
    """
    if weights is not None:
        hits, weights = hits[weights > 0], weights[weights > 0]
    if not len(hits) and not num_truth:
        return 1.0
    counts = np.ones(len(hits), np.int64) if weights is None else weights
    found = np.cumsum(hits * counts).astype(np.float32)
    precision = found / np.cumsum(counts).astype(np.float32)
    divisor = num_truth if num_truth else np.finfo(np.float32).eps
    recall = found / np.float32(divisor)
    best_after = np.maximum.accumulate(precision[::-1])[::-1]
    rows = np.searchsorted(recall, RECALL_LEVELS, side="left")
    total = np.float32(0)
    for row in rows[rows < len(hits)]:
        total += best_after[row]
    return float(total / np.float32(11))


def average_precision(
    matches: Ints,  # (P,)
    scores: Floats,  # (P,)
    num_truth: int,
) -> float:
    """Return the average precision of predictions that are matched already."""
    order = np.argsort(-scores, kind="stable")
    return interpolated_precision(matches[order] != NO_MATCH, num_truth)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return area
