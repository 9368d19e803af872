"""Motion of the ego in the preset `lights`: it keeps to the lane of its intended manoeuvre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.ego import (
    EGO_CENTRE_M,
    EGO_SIZE_M,
    EgoDrive,
    drive_along,
    drive_in_traffic,
    stays_on_road,
)
from bevstack.synthetic.population.population import Population
from bevstack.synthetic.population.traffic import LEAD_IN_S, Driver
from bevstack.synthetic.population.turning import turn_path, turns_at
from bevstack.synthetic.streets.rich_layout import movement_of
from bevstack.synthetic.streets.roads import AHEAD_M, BEHIND_M, Lane, StopLine
from bevstack.synthetic.streets.signal_plan import ACROSS, NEAR

_TURN_SHARE = 0.5
_TRIES = 6
_HARD_BRAKING = 8.0  # twice a hard deceleration, m/s^2
_AT_LINE_M = 1.5  # from the front of a waiting ego to its stop line


def drive_rich_ego(population: Population) -> EgoDrive:
    """Drive the ego straight on or through a turn, and the vehicles in its lane."""
    layout, rng = population.layout, population.rng
    straight = [
        lane
        for lane in layout.lanes
        if lane.is_main and lane.is_forward and movement_of(lane) not in (ACROSS, NEAR)
    ]
    if rng.random() < _TURN_SHARE:
        drive = _drive_turn(population)
        if drive is not None:
            return drive
    return _drive_straight(population, straight)


def _drive_straight(population: Population, lanes: list[Lane]) -> EgoDrive:
    lane = lanes[int(population.rng.integers(len(lanes)))]
    front = _draw_front(population, lane)
    rear = front - EGO_SIZE_M[0] / 2 - EGO_CENTRE_M
    return EgoDrive(drive_along(population, lane, rear), lane)


def _draw_front(population: Population, lane: Lane) -> float:
    """Draw the arc length of the ego's front: on the approach, or at its stop line at red."""
    rng, signals = population.rng, population.layout.signals
    stops = [stop for stop in lane.stop_lines if stop.s_m > BEHIND_M - 5.0]
    if not stops:
        return BEHIND_M + float(rng.uniform(-15.0, 15.0))
    stop = stops[0]
    if signals.is_red(stop.phase, 0.0) and rng.random() < 0.3:
        return stop.s_m - _AT_LINE_M
    least = _least_gap_m(population, stop, lane.speed_limit_mps)
    before = max((s.s_m for s in lane.stop_lines if s.s_m < stop.s_m), default=-np.inf)
    most = min(62.0, stop.s_m - before - 6.0)  # not before the stop line of another junction
    return stop.s_m - float(rng.uniform(least, most))


def _least_gap_m(population: Population, stop: StopLine, limit_mps: float) -> float:
    """Return the distance from the stop line in which the ego can stop if its light is red."""
    signals = population.layout.signals
    is_red = any(signals.is_red(stop.phase, time_s) for time_s in (-LEAD_IN_S, 0.0))
    return limit_mps**2 / _HARD_BRAKING + 3.0 if is_red else 6.0


def _drive_turn(population: Population) -> EgoDrive | None:
    """Drive the ego towards and through a turn; return None if it would leave the road."""
    layout, rng = population.layout, population.rng
    ahead = [n for n, c in enumerate(layout.crossings) if c.centre_s_m > BEHIND_M - 10.0]
    if not ahead:
        return None
    turns = [
        turn
        for turn in turns_at(layout, ahead[0], layout.crossings[ahead[0]])
        if turn.lane.is_main and turn.lane.is_forward
    ]
    turn = turns[int(rng.integers(len(turns)))]
    stops = tuple(stop for stop in turn.lane.stop_lines if stop.s_m <= turn.stop.s_m)
    limit = min(turn.lane.speed_limit_mps, 10.0)
    route = Lane(turn_path(turn), limit, stops, True, True)

    def accept(motion: NDArray[np.float64]) -> bool:
        inside = motion[0, -1] < route.path.length_m - AHEAD_M / 4
        return bool(inside) and stays_on_road(population, route, motion)

    for _ in range(_TRIES):
        waits = layout.signals.is_red(turn.stop.phase, 0.0) and rng.random() < 0.3
        least = _least_gap_m(population, turn.stop, limit)
        gap = _AT_LINE_M if waits else float(rng.uniform(least, 36.0))
        start = turn.stop.s_m - gap - EGO_SIZE_M[0] / 2
        ego = Driver(start, EGO_SIZE_M[0], float(rng.uniform(0.8, 1.05)))
        drive = drive_in_traffic(population, turn, route, ego, accept)
        if drive is not None:
            return drive
    return None
