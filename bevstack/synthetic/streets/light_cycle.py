"""Signal cycle of the traffic lights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Signals:
    """Cycle of all junctions: main road green, all red, cross streets green, all red.

    Phase 0 is the main road, phase 1 the cross streets.
    """

    offset_s: float
    main_s: float
    cross_s: float
    clear_s: float = 3.0
    yellow_s: float = 2.0

    @property
    def cycle_s(self) -> float:
        """Return the duration of one cycle."""
        return self.main_s + self.cross_s + 2 * self.clear_s

    def phase(self, junction: int, movement: int) -> int:
        """Return the phase of a movement (0 main road, 1 cross street), equal at all junctions."""
        return movement

    def is_red(self, phase: int, time_s: float) -> bool:
        """Return True if the vehicles of a phase must wait, at red or yellow."""
        t = (time_s + self.offset_s) % self.cycle_s
        if phase == 0:
            return t >= self.main_s
        start = self.main_s + self.clear_s
        return not start <= t < start + self.cross_s

    def red_window(self, phase: int, time_s: float) -> tuple[float, float]:
        """Return start and end of the red time of a phase that includes `time_s`, or of the next.

        Yellow counts as red.
        """
        offset_s = self.main_s if phase == 0 else self.main_s + self.clear_s + self.cross_s
        duration_s = self.cycle_s - (self.main_s if phase == 0 else self.cross_s)
        start_s = time_s - (time_s + self.offset_s - offset_s) % self.cycle_s
        if time_s >= start_s + duration_s:
            start_s += self.cycle_s
        return start_s, start_s + duration_s

    def colour(self, phase: int, time_s: float) -> int:
        """Return the colour of a phase as OpenLane-V2's attribute: 1 red, 2 green, 3 yellow.

        The first `yellow_s` of the red time are yellow.
        """
        if not self.is_red(phase, time_s):
            return 2
        return 1 if self.is_red(phase, time_s - self.yellow_s) else 3
