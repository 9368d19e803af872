"""Covered cameras: the part of a picture that stays the same while the vehicle drives."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.config.health import HealthConfig
from bevstack.runtime.health.rig_motion import Look

_CELLS = (16, 9)  # columns, rows
_SPACING_M = 1.4  # least way between two pictures: nine of them cover 11 m of the street
_SOBEL_GAIN = 8.0  # of the 3 x 3 mask, so that gradients are levels a pixel


class CoverWatch:
    """Last pictures of one camera, and the parts of them that stay.

    Dirt does not move with the street. A cell counts as covered if its mean level varies little
    over the last pictures; sky and dark streets at night stay below half of the cells. A lens
    cannot focus what lies on it. So, a cell with sharp edges that stay shows an object, such as a
    vehicle that keeps beside the own one, and does not count. Its edges divide the smooth parts of
    such a vehicle; of the cells that count, the largest connected part is taken.

    Args:
        config: thresholds.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._pictures: deque[NDArray[np.uint8]] = deque(maxlen=config.cover_pictures)
        self._cells: deque[NDArray[np.uint8]] = deque(maxlen=config.cover_pictures)
        self._last: Look | None = None
        self._is_covered = False

    def is_covered(self, look: Look) -> bool:
        """Return True if most cells stayed the same, and blurred, up to this picture."""
        if self._last is not None and look.distance_m(self._last) < _SPACING_M:
            return self._is_covered
        if self._pictures and self._pictures[-1].shape != look.grey.shape:
            self._pictures.clear()
            self._cells.clear()
        self._last = look
        small = cv2.resize(look.grey, _CELLS, interpolation=cv2.INTER_AREA)
        self._pictures.append(look.grey)
        self._cells.append(np.asarray(small, np.uint8))
        self._is_covered = self._judge()
        return self._is_covered

    def _judge(self) -> bool:
        config = self._config
        if len(self._cells) < config.cover_pictures:
            return False
        still = np.ptp(np.stack(self._cells), axis=0) <= config.cover_level
        if still.mean() <= config.covered_share:
            return False
        blurred = _sharpest_edges(self._pictures) < config.cover_edge
        return _largest_part(still & blurred) > config.covered_share


def _sharpest_edges(
    pictures: deque[NDArray[np.uint8]],  # (h, w) each
) -> NDArray[np.float32]:  # (9, 16)
    """Return the greatest gradient of each cell in the mean of some pictures, levels a pixel.

    Edges that move vanish in the mean, and so does most of the noise.
    """
    mean = np.mean(np.stack(pictures), axis=0, dtype=np.float32)
    across, down = cv2.Sobel(mean, cv2.CV_32F, 1, 0), cv2.Sobel(mean, cv2.CV_32F, 0, 1)
    size = np.hypot(across, down) / _SOBEL_GAIN
    for axis, count in ((0, _CELLS[1]), (1, _CELLS[0])):
        starts = np.arange(count) * size.shape[axis] // count
        size = np.maximum.reduceat(size, starts, axis=axis)
    return np.asarray(size, np.float32)


def _largest_part(
    chosen: NDArray[np.bool_],  # (9, 16)
) -> float:
    """Return the share of the largest connected part of the chosen cells in all cells."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(chosen.astype(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return float(areas.max(initial=0)) / chosen.size
