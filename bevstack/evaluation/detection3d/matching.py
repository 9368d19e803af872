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

from bevstack.evaluation.detection3d.box_errors import norms

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
    center: NDArray[np.float64]  # (M, 3) metres; the last does not matter


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
    places = (predictions.sample, predictions.center, first, truth.center, reach)
    start = _count_near(*places)
    rows, columns = _list_near(*places, start)
    difference = predictions.center[rows, :2] - truth.center[columns, :2]
    return Pairs(start, rows, columns, norms(difference))


class Matches(NamedTuple):
    """What was matched: at each distance, best first; and the pairs of all distances together."""

    prediction: tuple[NDArray[np.int64], ...]  # D times (K,) ascending
    pair: tuple[NDArray[np.int64], ...]  # D times (K,) which of the pairs below
    pairs: NDArray[np.int64]  # (U,) rows of Pairs, each matched at some distance


def match(
    pairs: Pairs,
    num_truth: int,
    distances_m: tuple[float, ...],
) -> Matches:
    """Gives each prediction, best first, the nearest true box that none before it has taken.

    A match is nearer than the distance. Each distance is matched on its own. Of true boxes equally
    near the first is taken.
    """
    limits = np.array(distances_m, dtype=np.float64)
    counts, hits, used = _match(pairs.start, pairs.truth, pairs.distance, num_truth, limits)
    return Matches(
        prediction=tuple(of_limit[:count, 0] for of_limit, count in zip(hits, counts, strict=True)),
        pair=tuple(of_limit[:count, 1] for of_limit, count in zip(hits, counts, strict=True)),
        pairs=used,
    )


@numba.njit(cache=True)
def _count_near(sample, center, first, truth_center, reach):  # type: ignore[no-untyped-def]
    start = np.zeros(len(sample) + 1, dtype=np.int64)
    for i in range(len(sample)):
        count = 0
        if sample[i] >= 0:
            for j in range(first[sample[i]], first[sample[i] + 1]):
                dx, dy = center[i, 0] - truth_center[j, 0], center[i, 1] - truth_center[j, 1]
                count += dx * dx + dy * dy <= reach
        start[i + 1] = start[i] + count
    return start


@numba.njit(cache=True)
def _list_near(sample, center, first, truth_center, reach, start):  # type: ignore[no-untyped-def]
    rows = np.empty(start[-1], dtype=np.int64)
    columns = np.empty(start[-1], dtype=np.int64)
    for i in range(len(sample)):
        place = start[i]
        if place == start[i + 1]:
            continue
        for j in range(first[sample[i]], first[sample[i] + 1]):
            dx, dy = center[i, 0] - truth_center[j, 0], center[i, 1] - truth_center[j, 1]
            if dx * dx + dy * dy <= reach:
                rows[place], columns[place] = i, j
                place += 1
    return rows, columns


@numba.njit(cache=True)
def _match(start, truth, distance, num_truth, limits):  # type: ignore[no-untyped-def]
    taken = np.zeros((len(limits), num_truth), dtype=np.bool_)
    hits = np.empty((len(limits), num_truth, 2), dtype=np.int64)
    counts = np.zeros(len(limits), dtype=np.int64)
    used = np.empty(len(limits) * num_truth, dtype=np.int64)
    number = 0  # of the used pairs
    for i in range(len(start) - 1):
        of_prediction = number
        for limit in range(len(limits)):
            nearest, best = np.inf, NO_MATCH
            for pair in range(start[i], start[i + 1]):
                if distance[pair] < nearest and not taken[limit, truth[pair]]:
                    nearest, best = distance[pair], pair
            if not nearest < limits[limit]:
                continue
            taken[limit, truth[best]] = True
            place = of_prediction
            while place < number and used[place] != best:
                place += 1
            if place == number:
                used[number] = best
                number += 1
            hits[limit, counts[limit], 0] = i
            hits[limit, counts[limit], 1] = place
            counts[limit] += 1
    return counts, hits, used[:number].copy()
