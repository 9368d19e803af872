"""Who stands where: keeps footprints apart at every moment of a scene."""

from __future__ import annotations

import math

import numba
import numpy as np

from bevstack.synthetic.population.traffic import Track

_STRIDE = 2  # steps of the time grid between two checks of moving footprints


@numba.njit(nogil=True, cache=True, error_model="numpy")
def rectangles_overlap(a, b):
    """Whether two turned rectangles overlap (separating axes); NaN overlaps nothing.

    Args:
        a: (5,) centre x, y, yaw, length, width.
        b: (5,) likewise.
    """
    dx, dy = b[0] - a[0], b[1] - a[1]
    reach = math.hypot(a[3], a[4]) + math.hypot(b[3], b[4])
    if not 4.0 * (dx * dx + dy * dy) < reach * reach:
        return False
    turn = b[2] - a[2]
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    cos, sin = math.cos(a[2]), math.sin(a[2])
    if 2.0 * abs(cos * dx + sin * dy) >= a[3] + c * b[3] + s * b[4]:
        return False
    if 2.0 * abs(cos * dy - sin * dx) >= a[4] + s * b[3] + c * b[4]:
        return False
    cos, sin = math.cos(b[2]), math.sin(b[2])
    if 2.0 * abs(cos * dx + sin * dy) >= b[3] + c * a[3] + s * a[4]:
        return False
    return 2.0 * abs(cos * dy - sin * dx) < b[4] + s * a[3] + c * a[4]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _meets_any(boxes, others, count):
    """Whether boxes (T, 5) or (1, 5) meet one of others (N, T', 5), at equal times."""
    for n in range(count):
        for t in range(max(boxes.shape[0], others.shape[1])):
            mine = boxes[min(t, boxes.shape[0] - 1)]
            if rectangles_overlap(mine, others[n, min(t, others.shape[1] - 1)]):
                return True
    return False


class Occupancy:
    """Footprints taken so far; `try_add` takes one more if it meets none of them.

    Args:
        steps: length of the time grid.
    """

    def __init__(self, steps: int) -> None:
        self._times = np.arange(0, steps, _STRIDE)
        # still ones have one time; both grow by doubling
        self._taken = [np.empty((256, 1, 5)), np.empty((64, len(self._times), 5))]
        self._counts = [0, 0]

    def try_add(self, track: Track, size_m: tuple[float, float], margin_m: float) -> bool:
        """Takes a footprint for the whole scene.

        Args:
            track: its motion.
            size_m: length and width.
            margin_m: kept free around it.

        Returns:
            False, and nothing is taken, where it would meet another one.
        """
        moves = bool((track.pose[0] != track.pose[-1]).any() or track.speed_mps.any())
        rows = self._times if moves else self._times[:1]
        box = np.empty((len(rows), 5))
        box[:, :3] = track.pose[rows]
        box[:, 3:] = np.array(size_m) + 2 * margin_m
        box[~track.alive[rows]] = np.nan  # meets nothing
        for taken, count in zip(self._taken, self._counts, strict=True):
            if _meets_any(box, taken, count):
                return False
        box[:, 3:] -= 2 * margin_m
        self._take(int(moves), box)
        return True

    def _take(self, kind: int, box: np.ndarray) -> None:
        if self._counts[kind] == len(self._taken[kind]):
            self._taken[kind] = np.concatenate([self._taken[kind]] * 2)
        self._taken[kind][self._counts[kind]] = box
        self._counts[kind] += 1
