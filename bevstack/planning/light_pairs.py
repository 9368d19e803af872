"""Pairs of lights that were seen at the same time: how long they showed one state, or two.

A light above the waiting vehicle is outside all images. Another light may speak for it only if
both were seen together in one state: a light of a neighbouring lane mostly differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.config.cues import CueConfig
from bevstack.planning.lights import UNKNOWN_STATE

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_LONGEST_STEP_S = 0.5  # of two frames: what happened in a longer pause is not known


@dataclass(frozen=True)
class LightPairs:
    """Times of each pair of E elements, in seconds; symmetric."""

    alike_s: Floats  # (E, E) both seen with a known state, which was the same
    differ_s: Floats  # (E, E) both seen with known states, which differed

    @staticmethod
    def start(count: int) -> LightPairs:
        """Return the times of elements that no image has shown."""
        return LightPairs(np.zeros((count, count)), np.zeros((count, count)))

    def reordered(self, rows: Integers) -> LightPairs:
        """Return the pairs of the elements of given rows; rows beyond the known ones are new."""
        size = max(len(self.alike_s), int(rows.max(initial=-1)) + 1)
        wider = ((0, size - len(self.alike_s)),) * 2
        both = (np.pad(times, wider)[np.ix_(rows, rows)] for times in (self.alike_s, self.differ_s))
        return LightPairs(*both)

    def after_look(self, seen: Flags, named: Integers, seconds: float) -> LightPairs:
        """Return the times after a frame.

        Args:
            seen: (E,) lights with a box in the frame.
            named: (E,) rows of ``STATE_NAMES``.
            seconds: since the frame before.
        """
        known = seen & (named != UNKNOWN_STATE)
        together = known[:, None] & known
        same = named[:, None] == named
        step = min(seconds, _LONGEST_STEP_S)
        return LightPairs(
            self.alike_s + step * (together & same), self.differ_s + step * (together & ~same)
        )

    def speaks_for(self, config: CueConfig) -> Flags:  # (E, E)
        """Return True where the row's light may be taken for one of the column's signal."""
        alike = self.alike_s >= config.alike_after_s
        return np.asarray(alike & (self.differ_s <= config.differ_at_most_s))
