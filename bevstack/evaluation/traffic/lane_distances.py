"""Distances between centre lines, relaxed with the distance from the vehicle, as in OpenLane-V2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.average_precision import Pairs

Floats = NDArray[np.float64]
Lanes = Sequence[NDArray[np.float32]]  # of (K, 3) points in the ego frame

LEAST_FACTOR, FACTOR_PER_M = 0.5, 0.005
_CHUNK = 1 << 21  # numbers in one array of distances


def relaxed_frechet(truth: Lanes, predicted: Lanes, pairs: Pairs, limit_m: float) -> Floats:
    """Return the relaxed discrete Frechet distance of each pair, (N,), in metres.

    The distance is multiplied by max(0.5, 1 - 0.005 d), where d is the distance in metres from the
    vehicle to the nearest point of the true lane. A distance of ``limit_m`` or more may be given as
    infinite: both ends of a lane are a lower bound that spares the exact distance.
    """
    distance = np.full(len(pairs.truth), np.inf)
    if not len(distance):
        return distance
    factor = np.array([_factor(points) for points in truth])[pairs.truth]
    ends = [np.stack((points[0], points[-1])).astype(np.float64) for points in truth]
    predicted_ends = [np.stack((points[0], points[-1])).astype(np.float64) for points in predicted]
    gaps = np.array(ends)[pairs.truth] - np.array(predicted_ends)[pairs.prediction]  # (N, 2, 3)
    bound = np.linalg.norm(gaps, axis=-1).max(axis=-1) * factor
    rows = np.flatnonzero(bound < limit_m)
    if not len(rows):
        return distance
    first, second = _Padded(truth), _Padded(predicted)
    step = max(1, _CHUNK // (first.points.shape[1] * second.points.shape[1]))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        distance[some] = _frechet(
            first.points[pairs.truth[some]],
            second.points[pairs.prediction[some]],
            first.last[pairs.truth[some]],
            second.last[pairs.prediction[some]],
        )
    relaxed: Floats = distance * factor
    return relaxed


class _Padded:
    """Lanes of different lengths in one array."""

    def __init__(self, lanes: Lanes) -> None:
        longest = max(len(lane) for lane in lanes)
        self.points = np.zeros((len(lanes), longest, 3))
        for row, lane in enumerate(lanes):
            self.points[row, : len(lane)] = lane
        self.last = np.array([len(lane) - 1 for lane in lanes])


def _factor(points: NDArray[np.float32]) -> float:
    nearest = np.float32(np.linalg.norm(points.astype(np.float64), axis=-1).min())
    return max(LEAST_FACTOR, 1 - FACTOR_PER_M * float(nearest))


def _frechet(
    first: Floats,  # (N, K, 3), padded at the end
    second: Floats,  # (N, M, 3), padded at the end
    last_first: NDArray[np.int64],  # (N,) index of the last point
    last_second: NDArray[np.int64],  # (N,)
) -> Floats:  # (N,)
    """Return the discrete Frechet distance of pairs of polylines.

    Eiter and Mannila, Computing discrete Frechet distance, 1994: the least leash with which two
    walkers reach the ends, each moving from point to point without going back. Both walkers of all
    pairs take their steps at once; values behind the end of a polyline are not read.
    """
    gaps = np.linalg.norm(first[:, :, None] - second[:, None, :], axis=-1)  # (N, K, M)
    leash = np.ascontiguousarray(gaps.transpose(1, 2, 0))  # (K, M, N)
    leash[0] = np.maximum.accumulate(leash[0], axis=0)
    leash[:, 0] = np.maximum.accumulate(leash[:, 0], axis=0)
    for i in range(1, leash.shape[0]):
        before = np.minimum(leash[i - 1, 1:], leash[i - 1, :-1])  # (M - 1, N)
        for j in range(1, leash.shape[1]):
            reached = np.minimum(before[j - 1], leash[i, j - 1])
            np.maximum(reached, leash[i, j], out=leash[i, j])
    shortest: Floats = leash[last_first, last_second, np.arange(leash.shape[2])]
    return shortest
