"""Who stands where: keeps footprints apart at every moment of a scene."""

from __future__ import annotations

import numpy as np

from bevstack.synthetic.traffic import Track

_STRIDE = 2  # steps of the time grid between two checks of moving footprints


def rectangles_overlap(
    a: np.ndarray,  # (N, 5): centre x, y, yaw, length, width
    b: np.ndarray,  # (N, 5)
) -> np.ndarray:
    """Row by row, whether two turned rectangles overlap (separating axes)."""
    delta = b[:, :2] - a[:, :2]
    overlap = np.ones(len(a), bool)
    for first, second, sign in ((a, b, 1.0), (b, a, -1.0)):
        cos, sin = np.cos(first[:, 2]), np.sin(first[:, 2])
        turn = second[:, 2] - first[:, 2]
        c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
        x = sign * (cos * delta[:, 0] + sin * delta[:, 1])
        y = sign * (-sin * delta[:, 0] + cos * delta[:, 1])
        overlap &= np.abs(x) < first[:, 3] / 2 + (c * second[:, 3] + s * second[:, 4]) / 2
        overlap &= np.abs(y) < first[:, 4] / 2 + (s * second[:, 3] + c * second[:, 4]) / 2
    return overlap


class Occupancy:
    """Footprints taken so far; `try_add` takes one more if it meets none of them."""

    def __init__(self, steps: int) -> None:
        self._times = np.arange(0, steps, _STRIDE)
        self._still = np.zeros((0, 5))
        self._moving = np.zeros((0, len(self._times), 5))

    def try_add(self, track: Track, size_m: tuple[float, float], margin_m: float) -> bool:
        """Takes a footprint for the whole scene.

        Args:
            track: its motion.
            size_m: length and width.
            margin_m: kept free around it.

        Returns:
            False, and nothing is taken, where it would meet another one.
        """
        pose = track.pose[self._times]
        box = np.concatenate([pose, np.tile(np.array(size_m), (len(pose), 1))], axis=1)
        alive = track.alive[self._times]
        box[~alive] = np.nan  # meets nothing
        grown = box.copy()
        grown[:, 3:] += 2 * margin_m
        moves = bool(np.ptp(pose, axis=0).max() > 1e-6)
        if self._meets(grown if moves else grown[:1], moves):
            return False
        if moves:
            self._moving = np.concatenate([self._moving, box[None]])
        else:
            self._still = np.concatenate([self._still, box[:1]])
        return True

    def _meets(self, box: np.ndarray, moves: bool) -> bool:
        reach = np.hypot(box[:, 3], box[:, 4]) / 2  # (T,) or (1,)
        for others in (self._still[:, None], self._moving):
            if not len(others):
                continue
            gap = np.hypot(others[..., 0] - box[None, :, 0], others[..., 1] - box[None, :, 1])
            near = gap < reach[None] + np.hypot(others[..., 3], others[..., 4]) / 2
            rows, times = np.nonzero(near)
            if not len(rows):
                continue
            theirs = others[rows, np.minimum(times, others.shape[1] - 1)]
            mine = box[np.minimum(times, len(box) - 1)]
            if rectangles_overlap(mine, theirs).any():
                return True
        return False
