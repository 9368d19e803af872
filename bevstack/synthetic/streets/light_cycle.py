"""The cycle of the traffic lights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Signals:
    """One cycle for all junctions: main green, all wait, cross green, all wait."""

    offset_s: float
    main_s: float
    cross_s: float
    clear_s: float = 3.0
    yellow_s: float = 2.0

    @property
    def cycle_s(self) -> float:
        """Time after which all repeats."""
        return self.main_s + self.cross_s + 2 * self.clear_s

    def is_red(self, phase: int, time_s: float) -> bool:
        """Whether the lanes of a phase must wait."""
        t = (time_s + self.offset_s) % self.cycle_s
        if phase == 0:
            return t >= self.main_s
        start = self.main_s + self.clear_s
        return not start <= t < start + self.cross_s

    def red_window(self, phase: int, time_s: float) -> tuple[float, float]:
        """Begin and end of the time in which a phase is red: the one at a time, or the next."""
        begin = self.main_s if phase == 0 else self.main_s + self.clear_s + self.cross_s
        length = self.cycle_s - (self.main_s if phase == 0 else self.cross_s)
        start = time_s - (time_s + self.offset_s - begin) % self.cycle_s
        if time_s >= start + length:
            start += self.cycle_s
        return start, start + length

    def colour(self, phase: int, time_s: float) -> int:
        """What the lights of a phase show, as OpenLane-V2's attribute: 1 red, 2 green, 3 yellow.

        Yellow are the first seconds of the time in which the lanes must wait.
        """
        if not self.is_red(phase, time_s):
            return 2
        return 1 if self.is_red(phase, time_s - self.yellow_s) else 3
