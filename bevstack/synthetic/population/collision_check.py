"""Collision check of footprints over the time of a scene.

Letters: N stored footprints, T times of the coarse grid.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.traffic import Track
from bevstack.synthetic.renderer.compiled import compiled_nogil

_STRIDE = 2  # steps of the time grid between two checks of moving footprints


@compiled_nogil
def rectangles_overlap(
    a: NDArray[np.float64],  # (5,)
    b: NDArray[np.float64],  # (5,)
) -> bool:
    """Return True if two rotated rectangles overlap (separating axis theorem).

    A rectangle with NaN overlaps nothing.

    Args:
        a: centre x, y m, yaw rad, length, width m.
        b: centre x, y m, yaw rad, length, width m.
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
    overlaps: bool = 2.0 * abs(cos * dy - sin * dx) < b[4] + s * a[3] + c * a[4]
    return overlaps


@compiled_nogil
def _overlaps_any(
    boxes: NDArray[np.float64],  # (T, 5), or (1, 5) if it stands still
    stored: NDArray[np.float64],  # (N, T, 5), or (N, 1, 5) if they stand still
    count: int,
) -> bool:
    """Return True if `boxes` overlap one of the first `count` stored ones at the same time."""
    for n in range(count):
        for t in range(max(boxes.shape[0], stored.shape[1])):
            box = boxes[min(t, boxes.shape[0] - 1)]
            if rectangles_overlap(box, stored[n, min(t, stored.shape[1] - 1)]):
                return True
    return False


class CollisionCheck:
    """Check of new footprints against those added before.

    Args:
        steps: length of the time grid.
    """

    def __init__(self, steps: int) -> None:
        self._times = np.arange(0, steps, _STRIDE)
        # static footprints (one time) and moving ones; both arrays grow by doubling
        self._footprints = [np.empty((256, 1, 5)), np.empty((64, len(self._times), 5))]
        self._counts = [0, 0]

    def try_add(self, track: Track, size_m: tuple[float, float], margin_m: float) -> bool:
        """Add a footprint for the whole scene unless it overlaps another one.

        Args:
            track: motion of the footprint.
            size_m: length and width.
            margin_m: free space required around it.

        Returns:
            True if it was added.
        """
        moves = bool((track.pose[0] != track.pose[-1]).any() or track.speed_mps.any())
        rows = self._times if moves else self._times[:1]
        box = np.empty((len(rows), 5))
        box[:, :3] = track.pose[rows]
        box[:, 3:] = np.array(size_m) + 2 * margin_m
        box[~track.alive[rows]] = np.nan  # overlaps nothing
        for stored, count in zip(self._footprints, self._counts, strict=True):
            if _overlaps_any(box, stored, count):
                return False
        box[:, 3:] -= 2 * margin_m
        self._store(int(moves), box)
        return True

    def _store(
        self,
        kind: int,  # 0 static, 1 moving
        box: NDArray[np.float64],  # (T, 5) or (1, 5)
    ) -> None:
        if self._counts[kind] == len(self._footprints[kind]):
            self._footprints[kind] = np.concatenate([self._footprints[kind]] * 2)
        self._footprints[kind][self._counts[kind]] = box
        self._counts[kind] += 1
