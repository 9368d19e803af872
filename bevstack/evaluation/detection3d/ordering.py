"""The order in which predictions are matched."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

DIGIT_BITS = 11  # the counters of one digit fit a core's first cache
SIGN = np.uint64(1 << 63)


def best_first(
    score: NDArray[np.float64],  # (M,) no NaN
) -> NDArray[np.int64]:  # (M,)
    """Rows by descending score; of equal scores the later row comes first; -0 equals 0.

    The reverse of a stable sort, by digits of the bits: some four times faster than comparing.
    """
    bits = (score + 0.0).view(np.uint64)  # -0 + 0 is 0
    negative = (bits & SIGN) != 0
    return _stable_order(np.where(negative, ~bits, bits | SIGN))[::-1]


@numba.njit(cache=True)
def _stable_order(keys):  # type: ignore[no-untyped-def]
    count = len(keys)
    order, other = np.arange(count), np.empty(count, dtype=np.int64)
    mask = np.uint64((1 << DIGIT_BITS) - 1)
    for shift in range(0, 64, DIGIT_BITS):
        start = np.zeros(1 << DIGIT_BITS, dtype=np.int64)
        for key in keys:
            start[(key >> np.uint64(shift)) & mask] += 1
        if start.max() == count:
            continue  # one digit for all: scores that were float32 have many
        place = 0
        for digit in range(len(start)):
            place, start[digit] = place + start[digit], place
        for row in order:
            digit = (keys[row] >> np.uint64(shift)) & mask
            other[start[digit]] = row
            start[digit] += 1
        order, other = other, order
    return order
