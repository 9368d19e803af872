"""People on the sidewalks, who cross streets by the traffic lights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.objects import people_and_props
from bevstack.synthetic.population.population import Population, Role
from bevstack.synthetic.population.traffic import DT_S, LEAD_IN_S, Track
from bevstack.synthetic.streets.ground import ROAD
from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.synthetic.streets.roads import CrossStreet, Path, RoadLayout

_WARM_UP_S = 15.0  # people walk this long before the time grid starts, and gather at kerbs
_START_DELAY_S = 1.0  # least time between the change to red and the first step
_END_MARGIN_S = 0.5  # least time between arrival at the other kerb and the end of red
_SMOOTH = 3  # half width, in steps, of the smoothing of starts and stops
_NEVER_S = 1e4
_GRID_M = 0.25
_NEAR_M = 45.0  # distance from a junction's centre within which carriageways are searched


@dataclass(frozen=True)
class Carriageway:
    """Part of a pedestrian's path on which vehicles of one phase drive."""

    low_m: float  # first arc length
    high_m: float  # last arc length
    phase: int


def carriageways_on(layout: RoadLayout, path: Path, offset_m: float) -> list[Carriageway]:
    """Return the carriageways that a parallel of a street crosses.

    Args:
        layout: streets.
        path: the main road's centre line or a cross street's path.
        offset_m: of the parallel, positive to the left.
    """
    carriageways = []
    for number, crossing in enumerate(layout.crossings):
        is_main = path is layout.centre
        if not is_main and path is not crossing.path:
            continue
        middle = crossing.centre_s_m if is_main else path.length_m / 2
        s = np.arange(middle - _NEAR_M, middle + _NEAR_M, _GRID_M)
        x, y, _ = path.at(s, offset_m)
        if is_main:
            offset = offsets_from(crossing.path, crossing.path.length_m / 2, x, y)
            on_road = np.abs(offset) < crossing.half_width_m
        else:
            offset = offsets_from(layout.centre, crossing.centre_s_m, x, y)
            on_road = (offset > -layout.right.kerb_m) & (offset < layout.left.kerb_m)
        if on_road.any():
            low, high = s[on_road].min() - _GRID_M, s[on_road].max() + _GRID_M
            phase = layout.signals.phase(number, 1 if is_main else 0)
            carriageways.append(Carriageway(float(low), float(high), phase))
    return carriageways


def offsets_from(
    path: Path,
    near_s_m: float,
    x_m: NDArray[np.float64],  # (P,)
    y_m: NDArray[np.float64],  # (P,)
) -> NDArray[np.float64]:  # (P,)
    """Return the offsets of points from a path, positive to the left.

    Args:
        path: the path.
        near_s_m: arc length around which the nearest part of the path is searched.
        x_m: of the points.
        y_m: of the points.
    """
    s = np.arange(near_s_m - _NEAR_M, near_s_m + _NEAR_M, 2 * _GRID_M)
    px, py, heading = path.at(s)
    dx, dy = x_m[:, None] - px, y_m[:, None] - py
    nearest = np.argmin(dx**2 + dy**2, axis=1)
    row = np.arange(len(x_m))
    yaw = heading[nearest]
    offsets: NDArray[np.float64] = np.cos(yaw) * dy[row, nearest] - np.sin(yaw) * dx[row, nearest]
    return offsets


def time_to_step_out(
    signals: Signals, phase: int, arrival_s: float, needed_s: float, reaction_s: float
) -> float:
    """Return the time at which a person at a kerb starts to cross.

    The vehicles' phase must be red during the whole crossing.

    Args:
        signals: of the junction.
        phase: of the vehicles that drive there.
        arrival_s: time of arrival at the kerb.
        needed_s: time to reach the other kerb.
        reaction_s: delay of a person who had to wait.

    Returns:
        `arrival_s` if the person need not wait; a time far in the future if red is always too
        short.
    """
    for ahead in (0, 1):
        start, end = signals.red_window(phase, arrival_s + ahead * signals.cycle_s)
        first, last = start + _START_DELAY_S, end - _END_MARGIN_S - needed_s
        if first <= arrival_s <= last:
            return arrival_s
        if arrival_s < first <= last:
            return min(first + reaction_s, last)
    return _NEVER_S


def walk_by_lights(
    population: Population,
    path: Path,
    start_s_m: float,
    speed_mps: float,
    offset_m: float,
    kerb_gap_m: float,
) -> Track | None:
    """Return the track of a person who walks along a street and waits at its kerbs.

    Args:
        population: provides the signals and draws the reaction times.
        path: of the street.
        start_s_m: arc length at the start, `_WARM_UP_S` before the time grid.
        speed_mps: negative against the path's direction.
        offset_m: from the path.
        kerb_gap_m: distance from the kerb at which the person waits.

    Returns:
        None if the walk would start on a carriageway.
    """
    direction, pace = np.sign(speed_mps), abs(speed_mps)
    time, walked = -LEAD_IN_S - _WARM_UP_S, 0.0
    knots = [(time, walked)]  # time s and walked distance m
    crossed = carriageways_on(population.layout, path, offset_m)
    intervals = sorted(
        (*sorted((direction * (c.low_m - start_s_m), direction * (c.high_m - start_s_m))), c.phase)
        for c in crossed
    )
    for low, high, phase in intervals:
        enter, leave = low - kerb_gap_m, high + kerb_gap_m
        if leave < walked:
            continue
        if enter < walked:
            return None
        arrival = time + (enter - walked) / pace
        reaction = float(population.rng.uniform(0.2, 1.5))
        departure = time_to_step_out(
            population.layout.signals, phase, arrival, (leave - enter) / pace, reaction
        )
        knots += [(arrival, enter), (departure, enter)]
        time, walked = departure, enter
    knots.append((time + _NEVER_S, walked + _NEVER_S * pace))
    steps = population.steps
    grid = np.arange(-_SMOOTH, steps + _SMOOTH) * DT_S - LEAD_IN_S
    exact = np.interp(grid, *np.array(knots).T)
    smooth = np.convolve(exact, np.full(2 * _SMOOTH + 1, 1 / (2 * _SMOOTH + 1)), mode="valid")
    s = start_s_m + direction * smooth
    x, y, heading = path.at(s, offset_m)
    velocity = np.gradient(np.stack([x, y], axis=1), DT_S, axis=0)
    alive = (s > 0.0) & (s < path.length_m)
    pose = np.stack([x, y, heading + (np.pi if direction < 0 else 0.0)], axis=1)
    return Track(pose, np.hypot(velocity[:, 0], velocity[:, 1]), np.zeros(steps), alive)


def add_people(population: Population) -> None:
    """Add walkers and standing groups on the sidewalks, and people who cross at junctions."""
    layout, rng = population.layout, population.rng
    sides = (layout.left, layout.right)
    for _ in range(int(rng.integers(3, 32))):
        side = sides[int(rng.integers(2))]
        s = rng.uniform(10.0, layout.centre.length_m - 10.0)
        d = side.sign * rng.uniform(side.kerb_m + 0.5, side.back_m - 0.3)
        if rng.random() < 0.78:
            _add_walker(population, layout.centre, s, d)
        else:
            _add_group(population, s, d)
    arm = layout.ego_arm()
    if arm is not None:
        street, low, high = arm
        for _ in range(int(rng.integers(2, 14))):
            beside = street.half_width_m + rng.uniform(0.5, street.walk_m - 0.3)
            d = float(rng.choice([-1, 1])) * beside
            _add_walker(population, street.path, rng.uniform(low, high), d)
    for crossing in layout.crossings:
        for _ in range(int(rng.integers(2, 12))):
            _add_crossing_person(population, crossing)


def _add_walker(population: Population, path: Path, s_m: float, offset_m: float) -> None:
    """Add a walker who is near arc length `s_m` when the scene starts."""
    rng = population.rng
    speed = float(np.clip(rng.normal(1.3, 0.3), 0.5, 2.4) * rng.choice([-1, 1]))
    start, gap = s_m - speed * _WARM_UP_S, float(rng.uniform(0.45, 1.2))
    track = walk_by_lights(population, path, start, speed, offset_m, gap)
    walker = people_and_props.make_pedestrian(rng, worker=rng.random() < 0.05, walks=True)
    if track is not None:
        population.add(walker, track, Role.PERSON)


def _add_group(population: Population, s_m: float, offset_m: float) -> None:
    """Add one to three people who stand together."""
    layout, rng = population.layout, population.rng
    for _ in range(int(rng.integers(1, 4))):
        x, y, heading = (float(v) for v in layout.centre.at(s_m, offset_m))
        person = people_and_props.make_pedestrian(rng)
        x, y = x + rng.normal(0, 0.6), y + rng.normal(0, 0.6)
        yaw = heading + rng.uniform(0, 6.28)
        if population.ground.surface_at(x, y) != ROAD:
            population.add_still(person, x, y, yaw, Role.PERSON)


def _add_crossing_person(population: Population, crossing: CrossStreet) -> None:
    """Add a person who waits for the light at a zebra crossing of a junction and then crosses."""
    layout, rng = population.layout, population.rng
    speed = float(np.clip(rng.normal(1.4, 0.25), 0.9, 2.2))
    duration = population.steps * DT_S - 2 * LEAD_IN_S
    for _ in range(4):
        over_main = rng.random() < 0.7
        if over_main:
            path = crossing.path
            beside = float(
                rng.choice([-1.0, 1.0]) * (crossing.half_width_m + rng.uniform(1.3, 3.7))
            )
        else:
            path = layout.centre
            side = (layout.left, layout.right)[int(rng.integers(2))]
            beside = side.sign * (
                side.kerb_m + float(rng.uniform(1.0, max(1.1, side.walk_m - 0.3)))
            )
        direction = float(rng.choice([-1, 1]))
        middle = path.length_m / 2 if over_main else crossing.centre_s_m
        half_widths = [
            (c.high_m - c.low_m) / 2
            for c in carriageways_on(layout, path, beside)
            if c.low_m < middle < c.high_m
        ]
        arrival = rng.uniform(-12.0, duration)  # at the kerb
        distance = speed * (arrival + LEAD_IN_S + _WARM_UP_S)
        distance += half_widths[0] if half_widths else 0.0
        gap = float(rng.uniform(0.45, 1.2))
        track = walk_by_lights(
            population, path, middle - direction * distance, direction * speed, beside, gap
        )
        person = people_and_props.make_pedestrian(rng, walks=True)
        if track is not None and population.add(person, track, Role.PERSON, margin_m=0.25):
            return
