"""Traffic of the preset `lights`: vehicles in a lane for turns alone make this turn."""

from __future__ import annotations

from bevstack.synthetic.population.population import Population
from bevstack.synthetic.population.traffic import drive_lane
from bevstack.synthetic.population.turning import Turn, turn_path, turns_at
from bevstack.synthetic.population.vehicles_on_street import (
    Vehicle,
    add_vehicle,
    draw_vehicles,
    drive_vehicles_of_lane,
)
from bevstack.synthetic.streets.rich_layout import movement_of
from bevstack.synthetic.streets.roads import Lane
from bevstack.synthetic.streets.signal_plan import ACROSS, NEAR


def drive_rich_vehicles(population: Population, ego_lane: Lane) -> None:
    """Add the traffic of every lane except the ego's."""
    for lane in population.layout.lanes:
        if lane is ego_lane:
            continue
        if movement_of(lane) in (ACROSS, NEAR):
            _drive_turn_lane(population, lane)
        else:
            drive_vehicles_of_lane(population, lane)


def _drive_turn_lane(population: Population, lane: Lane) -> None:
    """Add vehicles that turn at the first junction ahead of them."""
    turns = _turns_from(population, lane)
    order = sorted(draw_vehicles(population, lane), key=lambda v: -v.driver.s_m)
    groups: dict[int, list[Vehicle]] = {}
    for vehicle in order:
        ahead = sum(stop.s_m < vehicle.driver.s_m for stop in lane.stop_lines)
        groups.setdefault(ahead, []).append(vehicle)
    for number, vehicles in groups.items():
        route = lane if number == len(lane.stop_lines) else _route(lane, turns[number])
        drivers = [vehicle.driver for vehicle in vehicles]
        s, speed, braking = drive_lane(route, drivers, population.layout.signals, population.steps)
        for i, vehicle in enumerate(vehicles):
            add_vehicle(population, route, vehicle, s[i], speed[i], braking[i])


def _turns_from(population: Population, lane: Lane) -> list[Turn]:
    """Return the turn of a lane at each of its stop lines, in their order."""
    layout = population.layout
    turns = [
        turn
        for number, crossing in enumerate(layout.crossings)
        for turn in turns_at(layout, number, crossing)
        if turn.lane is lane
    ]
    return sorted(turns, key=lambda turn: turn.stop.s_m)


def _route(lane: Lane, turn: Turn) -> Lane:
    stops = tuple(stop for stop in lane.stop_lines if stop.s_m <= turn.stop.s_m)
    return Lane(turn_path(turn), lane.speed_limit_mps, stops, lane.is_main, lane.is_forward)
