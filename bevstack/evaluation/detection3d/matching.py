"""Greedy matching of predictions with true boxes of one class, at several distances at once.

Distances are computed by numpy (``box_errors.norms``), so ties break as in the devkit. Samples are
matched independently, and the best-first order within a sample equals that of the whole list.
One pass over the list is therefore enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.box_errors import norms
from bevstack.evaluation.detection3d.cached_loop import cached_loop

NO_MATCH = -1
MARGIN = 1.001  # pairs a little farther than the largest distance cannot change a match


class Pairs(NamedTuple):
    """Pairs of a prediction and a true box near enough to match, prediction by prediction."""

    start: NDArray[np.int64]  # (M + 1,) prediction i has the pairs from start[i] to start[i + 1]
    prediction: NDArray[np.int64]  # (P,)
    truth: NDArray[np.int64]  # (P,) ascending within a prediction
    distance: NDArray[np.float64]  # (P,) metres in (x, y)


class Centers(NamedTuple):
    """Samples and centers of the boxes of one class."""

    sample: NDArray[np.int32]  # (M,) or NO_SAMPLE
    center: NDArray[np.float64]  # (M, 3) metres; z is ignored


def near_pairs(
    predictions: Centers,
    truth: Centers,  # sorted by sample
    num_samples: int,
    reach_m: float,
) -> Pairs:
    """Return all pairs of one sample within ``reach_m``; centers that are not finite have none."""
    counts = np.bincount(truth.sample, minlength=num_samples)
    first = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    reach = (reach_m * MARGIN) ** 2
    arguments = (predictions.sample, predictions.center, first, truth.center, reach)
    start = _count_near(*arguments)
    rows, columns = _list_near(*arguments, start)
    difference = predictions.center[rows, :2] - truth.center[columns, :2]
    return Pairs(start, rows, columns, norms(difference))


class Matches(NamedTuple):
    """Matches at each distance, best first, and the pairs of all distances together."""

    prediction: tuple[NDArray[np.int64], ...]  # D times (K,) ascending
    pair: tuple[NDArray[np.int64], ...]  # D times (K,) index into ``pairs``
    pairs: NDArray[np.int64]  # (U,) rows of Pairs, each matched at some distance


def match(
    pairs: Pairs,
    num_truth: int,
    distances_m: tuple[float, ...],
) -> Matches:
    """Match each prediction, best first, with the nearest true box that is not matched yet.

    The distance of a match is smaller than the limit. Each limit is matched independently. Among
    true boxes at equal distances the first is matched.
    """
    limits = np.array(distances_m, dtype=np.float64)
    counts, hits, matched_pairs = _match(
        pairs.start, pairs.truth, pairs.distance, num_truth, limits
    )
    return Matches(
        prediction=tuple(hit[:count, 0] for hit, count in zip(hits, counts, strict=True)),
        pair=tuple(hit[:count, 1] for hit, count in zip(hits, counts, strict=True)),
        pairs=matched_pairs,
    )


@cached_loop
def _count_near(
    sample: NDArray[np.int32],  # (M,)
    center: NDArray[np.float64],  # (M, 3)
    first: NDArray[np.int64],  # (S + 1,) the first true box of each sample
    truth_center: NDArray[np.float64],  # (N, 3)
    reach: float,  # squared distance
) -> NDArray[np.int64]:  # (M + 1,)
    """Count the near true boxes of each prediction, and return the running sum of the counts."""
    start = np.zeros(len(sample) + 1, dtype=np.int64)
    for i in range(len(sample)):
        count = 0
        if sample[i] >= 0:
            for j in range(first[sample[i]], first[sample[i] + 1]):
                dx, dy = center[i, 0] - truth_center[j, 0], center[i, 1] - truth_center[j, 1]
                count += dx * dx + dy * dy <= reach
        start[i + 1] = start[i] + count
    return start


@cached_loop
def _list_near(
    sample: NDArray[np.int32],  # (M,)
    center: NDArray[np.float64],  # (M, 3)
    first: NDArray[np.int64],  # (S + 1,)
    truth_center: NDArray[np.float64],  # (N, 3)
    reach: float,  # squared distance
    start: NDArray[np.int64],  # (M + 1,) of ``_count_near``
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # (P,) predictions, (P,) true boxes
    """List the near pairs."""
    rows = np.empty(start[-1], dtype=np.int64)
    columns = np.empty(start[-1], dtype=np.int64)
    for i in range(len(sample)):
        pair = start[i]
        if pair == start[i + 1]:
            continue
        for j in range(first[sample[i]], first[sample[i] + 1]):
            dx, dy = center[i, 0] - truth_center[j, 0], center[i, 1] - truth_center[j, 1]
            if dx * dx + dy * dy <= reach:
                rows[pair], columns[pair] = i, j
                pair += 1
    return rows, columns


@cached_loop
def _match(
    start: NDArray[np.int64],  # (M + 1,)
    truth: NDArray[np.int64],  # (P,)
    distance: NDArray[np.float64],  # (P,)
    num_truth: int,
    limits: NDArray[np.float64],  # (D,)
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Match at every limit.

    Returns:
        (D,) number of matches; (D, N, 2) prediction and index of the pair in the last result;
        (U,) rows of the pairs that match at some limit.
    """
    taken = np.zeros((len(limits), num_truth), dtype=np.bool_)
    hits = np.empty((len(limits), num_truth, 2), dtype=np.int64)
    counts = np.zeros(len(limits), dtype=np.int64)
    used = np.empty(len(limits) * num_truth, dtype=np.int64)
    number = 0  # of used pairs
    for i in range(len(start) - 1):
        first_of_prediction = number
        for limit in range(len(limits)):
            nearest, best = np.inf, NO_MATCH
            for pair in range(start[i], start[i + 1]):
                if distance[pair] < nearest and not taken[limit, truth[pair]]:
                    nearest, best = distance[pair], pair
            if not nearest < limits[limit]:
                continue
            taken[limit, truth[best]] = True
            used_pair = first_of_prediction
            while used_pair < number and used[used_pair] != best:
                used_pair += 1
            if used_pair == number:
                used[number] = best
                number += 1
            hits[limit, counts[limit], 0] = i
            hits[limit, counts[limit], 1] = used_pair
            counts[limit] += 1
    return counts, hits, used[:number].copy()
