"""Signal plan of the preset `lights`: protected turns, red with yellow, flashing and dark lights.

All junctions of a scene share the cycle and differ in its offset, as along a coordinated road:

1. main road straight on, with the turns to the near side; people cross the cross street
2. turns of the main road across the opposite traffic, if it has lanes for them alone
3. cross street; people cross the main road

After each stage, yellow and a time in which all lights are red.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.types.traffic import Lamp

# Movements through a junction, each with its own state.
THROUGH, CROSS, ACROSS, NEAR, WALK_MAIN, WALK_CROSS = range(6)
_PER_JUNCTION = 8  # phases that are reserved for the movements of one junction
NORMAL, FLASHING, DARK = "normal", "flashing", "dark"
_WALK_END_S = 3.0  # people's green ends this long before the vehicles' green beside them

# The lit colours of one moment, each with its status.
Colours = tuple[tuple[str, str], ...]
_RED: Colours = (("red", "on"),)


@dataclass(frozen=True)
class RichSignals(Signals):
    """Cycle of all junctions. A phase is a movement at a junction; see `phase`.

    `main_s`, `across_s` and `cross_s` are the green times of the three stages, `clear_s` lies
    between two stages, and its first `yellow_s` are yellow. All times are whole milliseconds.
    """

    across_s: float = 0.0  # 0: no stage for turns across the opposite traffic
    red_yellow_s: float = 0.0  # red with yellow before green; 0: none
    flash_green_s: float = 0.0  # flashing green before yellow; 0: none
    flash_hz: float = 1.0
    offsets_s: tuple[float, ...] = ()  # of the cycle at each junction
    modes: tuple[str, ...] = ()  # NORMAL, FLASHING or DARK, of each junction

    @property
    def cycle_s(self) -> float:
        """Return the duration of one cycle."""
        stages = 3 if self.across_s else 2
        return self.main_s + self.across_s + self.cross_s + stages * self.clear_s

    def phase(self, junction: int, movement: int) -> int:
        """Return the number of a movement at a junction."""
        return _PER_JUNCTION * junction + movement

    def green(self, movement: int) -> tuple[float, float]:
        """Return start and end of the green time of a movement within the cycle."""
        across = self.main_s + self.clear_s
        cross = across + (self.across_s + self.clear_s if self.across_s else 0.0)
        return {
            THROUGH: (0.0, self.main_s),
            CROSS: (cross, cross + self.cross_s),
            ACROSS: (across, across + self.across_s) if self.across_s else (0.0, self.main_s),
            NEAR: (round(0.45 * self.main_s, 3), self.main_s),
            WALK_MAIN: (cross, cross + self.cross_s - _WALK_END_S),
            WALK_CROSS: (0.0, self.main_s - _WALK_END_S),
        }[movement]

    def is_red(self, phase: int, time_s: float) -> bool:
        """Return True if the vehicles of a phase must wait: at red, yellow, or red with yellow.

        The main road has priority at junctions whose lights flash or are dark.
        """
        junction, movement = divmod(phase, _PER_JUNCTION)
        if self.modes[junction] != NORMAL:
            return movement == CROSS
        start, end = self.green(movement)
        return not start <= (time_s + self.offsets_s[junction]) % self.cycle_s < end

    def red_window(self, phase: int, time_s: float) -> tuple[float, float]:
        """Return start and end of the red time of a street that includes `time_s`, or of the next.

        Args:
            phase: of THROUGH, for all lanes of the main road, or of CROSS.
            time_s: a time.

        Returns:
            An empty window if the lights of the junction flash or are dark.
        """
        junction, movement = divmod(phase, _PER_JUNCTION)
        if self.modes[junction] != NORMAL:
            return time_s, time_s
        last = ACROSS if movement == THROUGH and self.across_s else movement
        end, start = self.green(last)[1], self.green(movement)[0]
        duration = (start - end) % self.cycle_s
        begin = time_s - (time_s + self.offsets_s[junction] - end) % self.cycle_s
        if time_s >= begin + duration:
            begin += self.cycle_s
        return begin, begin + duration

    def colours(self, phase: int, time_s: float) -> Colours:
        """Return the lit colours of a phase at a time that is no time of a change."""
        junction, movement = divmod(phase, _PER_JUNCTION)
        walks = movement in (WALK_MAIN, WALK_CROSS)
        if self.modes[junction] == DARK or (walks and self.modes[junction] == FLASHING):
            return ()
        if self.modes[junction] == FLASHING:
            return (("red" if movement == CROSS else "yellow", "flashing"),)
        start, end = self.green(movement)
        now = (time_s + self.offsets_s[junction] - start) % self.cycle_s
        if now < end - start:
            flashes = not walks and now >= end - start - self.flash_green_s
            return (("green", "flashing" if flashes else "on"),)
        if walks:  # people on the crossing may finish
            return (("green", "flashing"),) if now < end - start + _WALK_END_S else _RED
        if now < end - start + self.yellow_s:
            return (("yellow", "on"),)
        if now >= self.cycle_s - self.red_yellow_s:
            return (("red", "on"), ("yellow", "on"))
        return _RED

    def states(
        self, phase: int, start_s: float, end_s: float
    ) -> tuple[tuple[float, ...], tuple[Colours, ...]]:
        """Return the times of change in a range, its start included, and the state after each."""
        junction, movement = divmod(phase, _PER_JUNCTION)
        green_start, green_end = self.green(movement)
        marks = [green_start, green_end, green_start - self.red_yellow_s]
        marks += [green_end - self.flash_green_s, green_end + self.yellow_s]
        marks.append(green_end + _WALK_END_S)
        first = np.floor((start_s + self.offsets_s[junction]) / self.cycle_s) - 1
        count = int((end_s - start_s) / self.cycle_s) + 4
        edges = {
            round(float((first + k) * self.cycle_s + mark - self.offsets_s[junction]), 6)
            for k in range(count)
            for mark in marks
        }
        times = [start_s, *sorted(edge for edge in edges if start_s < edge < end_s), end_s]
        changes: list[float] = []
        states: list[Colours] = []
        for begin, finish in itertools.pairwise(times):
            state = self.colours(phase, (begin + finish) / 2)
            if not states or state != states[-1]:
                changes.append(begin)
                states.append(state)
        return tuple(changes), tuple(states)


def lamps_of_state(colours: Colours, shape: str) -> tuple[Lamp, ...]:
    """Return the lamps of a light whose symbols have one shape."""
    return tuple(Lamp(colour, shape, status) for colour, status in colours)


def draw_signals(
    rng: np.random.Generator, junctions: int, *, protected: bool, night: bool, walk_s: float
) -> RichSignals:
    """Draw the plan of a scene.

    Args:
        rng: source of all draws.
        junctions: number of junctions.
        protected: True if a lane of the main road is for turns across the opposite traffic alone.
        night: True makes flashing lights more frequent.
        walk_s: time that a pedestrian needs to cross the main road.
    """
    yellow = _draw(rng, 2.6, 4.2)
    flash, dark = (0.16, 0.03) if night else (0.06, 0.03)
    modes = rng.choice([NORMAL, FLASHING, DARK], junctions, p=[1 - flash - dark, flash, dark])
    green = rng.choice([0.0, _draw(rng, 2.0, 3.0)], p=[0.65, 0.35])
    plan = RichSignals(
        0.0,
        _draw(rng, 7.0, 11.0),
        max(_draw(rng, 6.0, 9.0), min(round(walk_s, 3), 12.0)),
        clear_s=round(yellow + _draw(rng, 0.4, 1.2), 3),
        yellow_s=yellow,
        across_s=_draw(rng, 6.5, 10.0) if protected else 0.0,
        red_yellow_s=float(rng.choice([0.0, 1.0, 1.5], p=[0.45, 0.3, 0.25])),
        flash_green_s=float(green),
        flash_hz=float(rng.choice([1.0, 1.25, 1.5, 2.0])),
        modes=tuple(str(mode) for mode in modes),
    )
    offsets = tuple(_draw(rng, 0.0, plan.cycle_s) for _ in range(junctions))
    return RichSignals(**{**plan.__dict__, "offsets_s": offsets})


def _draw(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 3)
