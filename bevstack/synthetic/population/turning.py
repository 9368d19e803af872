"""Vehicles that turn at junctions, from the main road into a cross street or out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.objects import vehicles
from bevstack.synthetic.population.population import Population, Role
from bevstack.synthetic.population.traffic import Driver, drive_lane, track_on_path
from bevstack.synthetic.streets.roads import (
    STEP_M,
    CrossStreet,
    Lane,
    Path,
    RoadLayout,
    StopLine,
    path_through,
)

_TRIES = 8  # turns tried at a junction; those that would collide are not added
_BEYOND_M = 3.0  # distance beyond the kerb at which a turn ends


@dataclass(frozen=True)
class Turn:
    """A turn through a junction, from a lane's stop line into another lane."""

    lane: Lane  # of the approach
    stop: StopLine
    exit_lane: Lane
    exit_s_m: float

    @property
    def manoeuvre(self) -> str:
        """Return "left" or "right"."""
        before = float(self.lane.path.at(self.stop.s_m)[2])
        after = float(self.exit_lane.path.at(self.exit_s_m)[2])
        return "left" if np.sin(after - before) > 0 else "right"


def add_turning_vehicles(population: Population) -> int:
    """Add vehicles that turn without a collision; return their number."""
    layout, rng = population.layout, population.rng
    added = 0
    for number, crossing in enumerate(layout.crossings):
        turns = turns_at(layout, number, crossing)
        for _ in range(_TRIES):
            added += _try_turn(population, turns[int(rng.integers(len(turns)))])
    return added


def turns_at(layout: RoadLayout, number: int, crossing: CrossStreet) -> list[Turn]:
    """Return the left and right turns of a junction, into the cross street and out of it.

    A turn to the near side uses the lane at the kerb of the main road, a turn across the opposite
    traffic uses the inner lane.

    Args:
        layout: streets.
        number: index of the crossing in `layout.crossings`.
        crossing: the cross street.
    """
    main = layout.lanes[: len(layout.lane_offsets_m)]
    first = len(main) + 2 * number
    cross = layout.lanes[first : first + 2]
    turns = []
    for forward in (True, False):
        lanes = sorted(
            (
                (abs(d), m)
                for d, m in zip(layout.lane_offsets_m, main, strict=True)
                if m.is_forward == forward
            ),
            key=lambda pair: pair[0],
        )
        if not lanes:
            continue
        inner, outer = lanes[0][1], lanes[-1][1]
        for street in cross:
            to_left = street.is_forward == forward
            from_kerb = to_left == (layout.hand < 0)
            main_lane = outer if from_kerb else inner
            stop = _stop_at(main_lane, crossing)
            far = layout.left if street.is_forward else layout.right
            reach = street.path.length_m / 2 + far.kerb_m + _BEYOND_M
            turns.append(Turn(main_lane, stop, street, reach))
            # if the turn into the street is a left turn, the turn out of it is a right turn
            to_kerb = to_left != (layout.hand < 0)
            target = outer if to_kerb else inner
            x, y, _ = crossing.path.at(crossing.path.length_m / 2)
            middle = target.path.nearest_s(float(x), float(y))
            leave = middle + crossing.half_width_m + _BEYOND_M
            turns.append(Turn(street, street.stop_lines[0], target, leave))
    return turns


def _stop_at(lane: Lane, crossing: CrossStreet) -> StopLine:
    """Return the stop line of a lane that is nearest to a junction."""
    middle = np.array(crossing.path.at(crossing.path.length_m / 2)[:2])

    def distance(stop: StopLine) -> float:
        return float(np.hypot(*(np.array(lane.path.at(stop.s_m)[:2]) - middle)))

    return min(lane.stop_lines, key=distance)


def turn_path(turn: Turn) -> Path:
    """Return the path along the lane to its stop line, through the turn and along the exit lane."""
    entry, leave = turn.lane.path, turn.exit_lane.path
    start = np.array(entry.at(turn.stop.s_m + 1.0))
    end = np.array(leave.at(turn.exit_s_m))
    tangent_m = 1.3 * float(np.hypot(*(end - start)[:2]))
    t = np.linspace(0.0, 1.0, 60)[1:-1, None]
    tangents = [np.array([np.cos(p[2]), np.sin(p[2])]) * tangent_m for p in (start, end)]
    curve = (  # cubic Hermite spline
        (2 * t**3 - 3 * t**2 + 1) * start[:2]
        + (t**3 - 2 * t**2 + t) * tangents[0]
        + (-2 * t**3 + 3 * t**2) * end[:2]
        + (t**3 - t**2) * tangents[1]
    )
    before = entry.points_m[entry.s_m < turn.stop.s_m + 0.9]
    after = leave.points_m[leave.s_m > turn.exit_s_m + 0.1]
    uneven = path_through(np.concatenate([before, start[None, :2], curve, end[None, :2], after]))
    s = np.arange(0.0, uneven.length_m, STEP_M)
    even = [np.interp(s, uneven.s_m, uneven.points_m[:, axis]) for axis in range(2)]
    return path_through(np.stack(even, axis=1))


def _try_turn(population: Population, turn: Turn) -> bool:
    """Add a vehicle that turns, unless it would collide; return True if it was added."""
    rng = population.rng
    draw = rng.random()
    maker = vehicles.make_car if draw < 0.85 else vehicles.make_truck
    model = maker(rng)
    length = model.size_m[0]
    start = turn.stop.s_m - length / 2 - float(rng.uniform(0.0, 70.0))
    if start < length:
        return False
    path = turn_path(turn)
    stops = tuple(s for s in turn.lane.stop_lines if s.s_m <= turn.stop.s_m)
    lane = Lane(path, turn.lane.speed_limit_mps, stops, turn.lane.is_main, turn.lane.is_forward)
    driver = Driver(start, length, float(rng.uniform(0.8, 1.05)))
    s, speed, braking = drive_lane(lane, [driver], population.layout.signals, population.steps)
    track = track_on_path(path, s[0], speed[0], braking[0], length / 2)
    return population.add(model, track, Role.TRAFFIC, margin_m=0.35)
