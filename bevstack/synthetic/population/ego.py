"""Motion of the ego, straight on or turning, and of the vehicles ahead of and behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.population import Population
from bevstack.synthetic.population.traffic import (
    DT_S,
    LEAD_IN_S,
    Driver,
    Leader,
    Track,
    drive_lane,
    track_on_path,
)
from bevstack.synthetic.population.turning import Turn, turn_path, turns_at
from bevstack.synthetic.population.vehicles_on_street import Vehicle, add_vehicle, draw_vehicles
from bevstack.synthetic.streets.ground import ROAD
from bevstack.synthetic.streets.roads import AHEAD_M, BEHIND_M, Lane

EGO_SIZE_M = (4.6, 1.9)  # length and width; the ego's origin is its rear axle
EGO_CENTRE_M = 1.3  # of the body, ahead of the rear axle
_TRIES = 12  # start positions tried for a turn that ends within the scene
_TURNED_RAD = np.deg2rad(62.0)  # least change of heading within the scene
_LIMIT_MPS = 10.0  # speed limit of a turning ego
_MARGIN_M = (0.8, 0.4)  # along and across, kept free around a turning ego
_CLEAR_M = 2.6  # distance from its lane at which a turning ego no longer blocks its followers


@dataclass(frozen=True)
class EgoDrive:
    """Motion of the ego, and the lane that it shares with traffic at the start."""

    track: Track  # of the rear axle
    lane: Lane
    turn: Turn | None = None  # that it makes or intends to make


def drive_ego(population: Population) -> EgoDrive:
    """Drive the ego and the other vehicles in its lane, before anything else is added.

    Args:
        population: without objects; receives the vehicles of the ego's lane.
    """
    turning = _drive_turn(population) if population.layout.turn is not None else None
    if turning is not None:
        return turning
    layout, rng = population.layout, population.rng
    forward = [lane for lane in layout.lanes if lane.is_main and lane.is_forward]
    lane = forward[int(rng.integers(len(forward)))]
    return EgoDrive(drive_along(population, lane, _draw_start(population, lane)), lane)


def _draw_start(population: Population, lane: Lane) -> float:
    """Draw the arc length at which the ego's rear axle starts: anywhere, or at a red signal."""
    rng, signals = population.rng, population.layout.signals
    waiting = [
        stop.s_m - EGO_SIZE_M[0] / 2 - EGO_CENTRE_M - 1.5
        for stop in lane.stop_lines
        if abs(stop.s_m - BEHIND_M) < 60.0 and signals.is_red(stop.phase, 0.0)
    ]
    anywhere = BEHIND_M + float(rng.uniform(-25.0, 20.0))
    return waiting[0] if waiting and rng.random() < 0.6 else anywhere


def drive_along(population: Population, lane: Lane, start_s_m: float) -> Track:
    """Drive the ego straight on among the traffic of its lane; return its rear axle's track."""
    rng = population.rng
    ego = Driver(start_s_m + EGO_CENTRE_M, EGO_SIZE_M[0], float(rng.uniform(0.8, 1.1)))
    traffic = draw_vehicles(population, lane, keep_free=(ego.s_m - 14.0, ego.s_m + 14.0))
    order = sorted([Vehicle(ego, []), *traffic], key=lambda vehicle: -vehicle.driver.s_m)
    drivers = [vehicle.driver for vehicle in order]
    s, speed, braking = drive_lane(lane, drivers, population.layout.signals, population.steps)
    index = next(i for i, vehicle in enumerate(order) if vehicle.driver is ego)
    body = track_on_path(lane.path, s[index], speed[index], braking[index], 0.0)
    population.reserve_track(body, EGO_SIZE_M)
    for i, vehicle in enumerate(order):
        add_vehicle(population, lane, vehicle, s[i], speed[i], braking[i])
    return track_on_path(lane.path, s[index] - EGO_CENTRE_M, speed[index], braking[index], 0.0)


def _drive_turn(population: Population) -> EgoDrive | None:
    """Drive the ego through a turn within the scene; return None if no start position allows it."""
    layout, rng = population.layout, population.rng
    assert layout.turn is not None
    crossing = layout.crossings[layout.turn.crossing]
    turn = next(
        turn
        for turn in turns_at(layout, layout.turn.crossing, crossing)
        if turn.lane.is_main
        and turn.lane.is_forward
        and turn.exit_lane.is_forward == (layout.turn.arm > 0)
    )
    stops = tuple(stop for stop in turn.lane.stop_lines if stop.s_m <= turn.stop.s_m)
    limit = min(turn.lane.speed_limit_mps, _LIMIT_MPS)
    route = Lane(turn_path(turn), limit, stops, True, True)
    duration = population.steps * DT_S - 2 * LEAD_IN_S
    reach = min(4.0 + 2.2 * duration, 60.0)

    def accept(motion: NDArray[np.float64]) -> bool:
        return _turns_on_road(population, route, motion)

    for _ in range(_TRIES):
        front = turn.stop.s_m - 0.5 - float(rng.uniform(0.0, reach))
        ego = Driver(front - EGO_SIZE_M[0] / 2, EGO_SIZE_M[0], float(rng.uniform(0.8, 1.05)))
        drive = drive_in_traffic(population, turn, route, ego, accept)
        if drive is not None:
            return drive
    return None


def _motion(
    population: Population, lane: Lane, driver: Driver, leader: Leader | None = None
) -> NDArray[np.float64]:
    """Return arc length of the centre, speed and braking (3, steps) of a single vehicle."""
    signals = population.layout.signals
    return np.stack(
        [rows[0] for rows in drive_lane(lane, [driver], signals, population.steps, leader)]
    )


def _turns_on_road(
    population: Population,
    route: Lane,
    motion: NDArray[np.float64],  # (3, steps)
) -> bool:
    """Return True if the ego turns within the scene and never leaves the carriageway."""
    lead = round(LEAD_IN_S / DT_S)
    heading = route.path.at(motion[0] - EGO_CENTRE_M)[2][lead:-lead]
    if np.ptp(heading) < _TURNED_RAD or motion[0, -1] > route.path.length_m - AHEAD_M / 2:
        return False
    return stays_on_road(population, route, motion)


def stays_on_road(
    population: Population,
    route: Lane,
    motion: NDArray[np.float64],  # (3, steps)
) -> bool:
    """Return True if the ego never leaves the carriageway."""
    body = track_on_path(route.path, motion[0], motion[1], motion[2], 0.0).pose
    cos, sin = np.cos(body[:, 2]), np.sin(body[:, 2])
    for u in (-EGO_SIZE_M[0] / 2, 0.0, EGO_SIZE_M[0] / 2):
        for v in (-EGO_SIZE_M[1] / 2, EGO_SIZE_M[1] / 2):
            x, y = body[:, 0] + cos * u - sin * v, body[:, 1] + sin * u + cos * v
            if (population.ground.surface_at(x, y) != ROAD).any():
                return False
    return True


def drive_in_traffic(
    population: Population,
    turn: Turn,
    route: Lane,
    ego: Driver,
    accept: Callable[[NDArray[np.float64]], bool],
) -> EgoDrive | None:
    """Drive a turning ego among vehicles that drive straight on ahead of it and behind it.

    Args:
        population: receives the vehicles.
        turn: the turn.
        route: its path, limit and stop lines.
        ego: the ego at the start.
        accept: returns True for a motion (3, steps) of the ego that may be used.

    Returns:
        None, with nothing added, if the motion of the ego alone is not accepted.
    """
    lane, signals, steps = turn.lane, population.layout.signals, population.steps
    motion = _motion(population, route, ego)
    if not accept(motion):
        return None
    traffic = draw_vehicles(population, lane, keep_free=(ego.s_m - 14.0, ego.s_m + 14.0))
    traffic.sort(key=lambda vehicle: -vehicle.driver.s_m)
    ahead = [vehicle for vehicle in traffic if vehicle.driver.s_m > ego.s_m]
    behind = [vehicle for vehicle in traffic if vehicle.driver.s_m < ego.s_m]
    if ahead:
        ahead_motion = drive_lane(lane, [vehicle.driver for vehicle in ahead], signals, steps)
        s, speed = ahead_motion[0][-1], ahead_motion[1][-1]  # of the last vehicle ahead
        length = ahead[-1].driver.length_m
        before_turn = s - length / 2 < turn.stop.s_m + 3.0
        leader = Leader(np.where(before_turn, s, np.nan), speed, length)
        following = _motion(population, route, ego, leader)
        if accept(following):
            motion = following
        else:
            ahead = []  # behind them, the ego would not turn within the scene
    body = track_on_path(route.path, motion[0], motion[1], motion[2], 0.0)
    size = (EGO_SIZE_M[0] + 2 * _MARGIN_M[0], EGO_SIZE_M[1] + 2 * _MARGIN_M[1])
    population.reserve_track(body, size)
    for i, vehicle in enumerate(ahead):
        add_vehicle(population, lane, vehicle, *(rows[i] for rows in ahead_motion))
    if behind:
        x, y, _ = lane.path.at(motion[0])
        clear = np.hypot(body.pose[:, 0] - x, body.pose[:, 1] - y) > _CLEAR_M
        leader = Leader(np.where(clear, np.nan, motion[0]), motion[1], EGO_SIZE_M[0])
        drivers = [vehicle.driver for vehicle in behind]
        behind_motion = drive_lane(lane, drivers, signals, steps, leader)
        for i, vehicle in enumerate(behind):
            add_vehicle(population, lane, vehicle, *(rows[i] for rows in behind_motion))
    rear = track_on_path(route.path, motion[0] - EGO_CENTRE_M, motion[1], motion[2], 0.0)
    return EgoDrive(rear, lane, turn)
