"""Order of predictions for matching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.cached_loop import cached_loop

DIGIT_BITS = 11  # the counters of one digit fit into a core's L1 cache
SIGN = np.uint64(1 << 63)


def best_first(
    score: NDArray[np.float64],  # (M,) no NaN
) -> NDArray[np.int64]:  # (M,)
    """Return rows by descending score; of equal scores the later row comes first; -0 equals 0.

    It is the reverse of a stable radix sort of the bits, about four times faster than a sort by
    comparison.
    """
    bits = (score + 0.0).view(np.uint64)  # -0 + 0 is 0
    negative = (bits & SIGN) != 0
    order: NDArray[np.int64] = _stable_order(np.where(negative, ~bits, bits | SIGN))
    return order[::-1]


@cached_loop
def _stable_order(
    keys: NDArray[np.uint64],  # (M,)
) -> NDArray[np.int64]:  # (M,)
    """Sort rows by ascending key, stably, with a radix sort."""
    count = len(keys)
    order, next_order = np.arange(count), np.empty(count, dtype=np.int64)
    mask = np.uint64((1 << DIGIT_BITS) - 1)
    for shift in range(0, 64, DIGIT_BITS):
        start = np.zeros(1 << DIGIT_BITS, dtype=np.int64)
        for key in keys:
            start[(key >> np.uint64(shift)) & mask] += 1
        if start.max() == count:
            continue  # all keys have this digit in common; usual for scores that were float32
        total = 0
        for digit in range(len(start)):
            total, start[digit] = total + start[digit], total
        for row in order:
            digit = (keys[row] >> np.uint64(shift)) & mask
            next_order[start[digit]] = row
            start[digit] += 1
        order, next_order = next_order, order
    return order
