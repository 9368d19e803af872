"""Covered cameras: the part of a picture that stays the same while the vehicle drives."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.config.health import HealthConfig
from bevstack.runtime.health.rig_motion import Look

_CELLS = (16, 9)  # columns, rows
_SPACING_M = 1.4  # least way between two pictures: the last six cover 7 m of the street


class CoverWatch:
    """Brightness of the cells of one camera's last pictures.

    Dirt does not move with the street. A cell counts as covered if its mean level varies little
    over the last pictures; sky and dark streets at night stay below half of the cells.

    Args:
        config: thresholds.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._cells: deque[NDArray[np.uint8]] = deque(maxlen=config.cover_pictures)
        self._last: Look | None = None

    def is_covered(self, look: Look) -> bool:
        """Return True if most cells stayed the same up to this picture."""
        if self._last is None or look.distance_m(self._last) >= _SPACING_M:
            self._last = look
            small = cv2.resize(look.grey, _CELLS, interpolation=cv2.INTER_AREA)
            self._cells.append(np.asarray(small, np.uint8))
        if len(self._cells) < self._config.cover_pictures:
            return False
        variation = np.ptp(np.stack(self._cells), axis=0)
        return bool((variation <= self._config.cover_level).mean() > self._config.covered_share)
