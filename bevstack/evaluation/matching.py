"""Greedy matching of predictions with true boxes of one class, at several distances at once.

What is compared are distances that numpy computed (``box_errors.norms``), so the choice among
equals is the devkit's. Matching within one sample is independent of all others, and the order of
the best score first within a sample is that of the whole list; hence one pass over the list.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.box_errors import norms

NO_MATCH = -1
MARGIN = 1.001  # pairs a little farther than the largest distance cannot change a match


class Pairs(NamedTuple):
    """Predictions and true boxes that are near enough to match, prediction by prediction."""

    start: NDArray[np.int64]  # (M + 1,) those of prediction i are start[i] to start[i + 1]
    prediction: NDArray[np.int64]  # (P,)
    truth: NDArray[np.int64]  # (P,) ascending within a prediction
    distance: NDArray[np.float64]  # (P,) metres in (x, y)


class Places(NamedTuple):
    """Where boxes of one class are."""

    sample: NDArray[np.int32]  # (M,) or NO_SAMPLE
    xy: NDArray[np.float64]  # (M, 2) metres


def near_pairs(
    predictions: Places,
    truth: Places,  # sorted by sample
    num_samples: int,
    reach_m: float,
) -> Pairs:
    """All pairs of one sample within ``reach_m``; places that are not finite pair with nothing."""
    counts = np.bincount(truth.sample, minlength=num_samples)
    first = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    reach = (reach_m * MARGIN) ** 2
    start = _count_near(predictions.sample, predictions.xy, first, truth.xy, reach)
    rows, columns = _list_near(predictions.sample, predictions.xy, first, truth.xy, reach, start)
    difference = predictions.xy[rows] - truth.xy[columns]
    return Pairs(start, rows, columns, norms(difference))


def match(
    pairs: Pairs,
    num_truth: int,
    distances_m: tuple[float, ...],
) -> NDArray[np.int64]:  # (D, M) rows of pairs, or NO_MATCH
    """Gives each prediction, best first, the nearest true box that none before it has taken.

    A match is nearer than the distance. Each distance is matched on its own. Of true boxes equally
    near the first is taken.
    """
    limits = np.array(distances_m, dtype=np.float64)
    return _match(pairs.start, pairs.truth, pairs.distance, num_truth, limits)


@numba.njit(cache=True)
def _count_near(sample, xy, first, truth_xy, reach):  # type: ignore[no-untyped-def]
    start = np.zeros(len(sample) + 1, dtype=np.int64)
    for i in range(len(sample)):
        count = 0
        if sample[i] >= 0:
            for j in range(first[sample[i]], first[sample[i] + 1]):
                dx, dy = xy[i, 0] - truth_xy[j, 0], xy[i, 1] - truth_xy[j, 1]
                count += dx * dx + dy * dy <= reach
        start[i + 1] = start[i] + count
    return start


@numba.njit(cache=True)
def _list_near(sample, xy, first, truth_xy, reach, start):  # type: ignore[no-untyped-def]
    rows = np.empty(start[-1], dtype=np.int64)
    columns = np.empty(start[-1], dtype=np.int64)
    for i in range(len(sample)):
        place = start[i]
        if place == start[i + 1]:
            continue
        for j in range(first[sample[i]], first[sample[i] + 1]):
            dx, dy = xy[i, 0] - truth_xy[j, 0], xy[i, 1] - truth_xy[j, 1]
            if dx * dx + dy * dy <= reach:
                rows[place], columns[place] = i, j
                place += 1
    return rows, columns


@numba.njit(cache=True)
def _match(start, truth, distance, num_truth, limits):  # type: ignore[no-untyped-def]
    count = len(start) - 1
    taken = np.zeros((len(limits), num_truth), dtype=np.bool_)
    found = np.full((len(limits), count), NO_MATCH, dtype=np.int64)
    for i in range(count):
        for limit in range(len(limits)):
            nearest, best = np.inf, NO_MATCH
            for pair in range(start[i], start[i + 1]):
                if distance[pair] < nearest and not taken[limit, truth[pair]]:
                    nearest, best = distance[pair], pair
            if nearest < limits[limit]:
                taken[limit, truth[best]] = True
                found[limit, i] = best
    return found
