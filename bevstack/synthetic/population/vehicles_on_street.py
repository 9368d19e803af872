"""Objects on the streets: traffic, parked vehicles, two-wheelers, and objects of chosen classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.objects import people_and_props, vehicles
from bevstack.synthetic.objects.vehicles import ObjectModel
from bevstack.synthetic.population.population import Population, Role
from bevstack.synthetic.population.traffic import (
    DT_S,
    Driver,
    Track,
    drive_lane,
    track_on_path,
    walk_on_path,
)
from bevstack.synthetic.streets.roads import Lane, Side

# The lidar may miss a small object. Several copies make sure that its class has ground truth.
_COPIES = {"traffic_cone": 4, "bicycle": 3, "motorcycle": 3}  # 2 of all other classes


@dataclass(frozen=True)
class Vehicle:
    """A vehicle in a lane and its models: a truck with a trailer has two."""

    driver: Driver
    models: list[ObjectModel]  # from front to back


def drive_vehicles(population: Population, ego_lane: Lane) -> None:
    """Add the traffic of every lane except the ego's."""
    for lane in population.layout.lanes:
        if lane is not ego_lane:
            drive_vehicles_of_lane(population, lane)


def drive_vehicles_of_lane(population: Population, lane: Lane) -> None:
    """Add the traffic of one lane, which drives straight on."""
    order = sorted(draw_vehicles(population, lane), key=lambda v: -v.driver.s_m)
    if not order:
        return
    drivers = [vehicle.driver for vehicle in order]
    s, speed, braking = drive_lane(lane, drivers, population.layout.signals, population.steps)
    for i, vehicle in enumerate(order):
        add_vehicle(population, lane, vehicle, s[i], speed[i], braking[i])


def _draw_models(rng: np.random.Generator) -> list[ObjectModel]:
    """Draw the models of one vehicle: a truck with a trailer has two."""
    draw = rng.random()
    if draw < 0.74:
        return [vehicles.make_car(rng)]
    if draw < 0.83:
        return [vehicles.make_truck(rng)]
    if draw < 0.89:
        return [vehicles.make_bus(rng)]
    if draw < 0.96:
        return [people_and_props.make_motorcycle(rng, rider=True)]
    return [vehicles.make_truck(rng), vehicles.make_trailer(rng)]


def _total_length(models: list[ObjectModel]) -> float:
    return sum(m.size_m[0] for m in models) + 0.8 * (len(models) - 1)


def draw_vehicles(
    population: Population, lane: Lane, keep_free: tuple[float, float] = (1.0, 0.0)
) -> list[Vehicle]:
    """Draw vehicles along a lane and upstream of it, from where they enter it later.

    Args:
        population: source of the draws.
        lane: the lane.
        keep_free: range of arc lengths without vehicles at the start; empty by default.
    """
    rng = population.rng
    mean_gap = float(rng.uniform(12.0, 65.0)) if lane.is_main else float(rng.uniform(20.0, 80.0))
    upstream = lane.speed_limit_mps * population.steps * DT_S
    drawn = []
    s = lane.path.length_m - rng.uniform(5.0, 20.0)
    while s > -upstream:
        models = _draw_models(rng)
        length = _total_length(models)
        s -= length / 2
        clear = s + length / 2 < keep_free[0] or s - length / 2 > keep_free[1]
        if clear and not _in_junction(lane, s, length):
            driver = Driver(s, length, float(rng.uniform(0.75, 1.1)))
            drawn.append(Vehicle(driver, models))
        s -= length / 2 + 6.0 + float(rng.exponential(mean_gap))
    return drawn


def _in_junction(lane: Lane, s_m: float, length_m: float) -> bool:
    """Return True inside a junction, where no vehicle may start: cross traffic may have green."""
    return any(stop.s_m < s_m + length_m / 2 < stop.s_m + 20.0 for stop in lane.stop_lines)


def add_vehicle(
    population: Population,
    lane: Lane,
    vehicle: Vehicle,
    s: NDArray[np.float64],  # (K,) m
    speed: NDArray[np.float64],  # (K,) m/s
    braking: NDArray[np.float64],  # (K,) 0..1
) -> None:
    """Add the models of a vehicle in a lane, except those that would collide."""
    offset = float(population.rng.normal(0, 0.12))
    front = vehicle.driver.length_m / 2
    for model in vehicle.models:
        half = model.size_m[0] / 2
        track = track_on_path(lane.path, s + front - half, speed, braking, half, offset)
        role = Role.RIDDEN if model.category == "vehicle.motorcycle" else Role.TRAFFIC
        population.add(model, track, role, margin_m=0.05)
        front -= model.size_m[0] + 0.8


def park_along_kerbs(population: Population) -> None:
    """Add rows of parked vehicles in the parking strips, most of them in driving direction."""
    layout, rng = population.layout, population.rng
    for side in (layout.left, layout.right):
        if not side.parking_m:
            continue
        backwards = side.sign * layout.hand > 0
        filled = rng.uniform(0.1, 0.95)
        s = rng.uniform(0.0, 6.0)
        while s < layout.centre.length_m:
            model = _draw_parked(rng)
            length = model.size_m[0]
            s += length / 2
            clear = not layout.junction_mask(np.array(s), 9.0 + length / 2)
            if clear and rng.random() < filled:
                d = side.sign * (side.kerb_m - side.parking_m / 2) + rng.normal(0, 0.08)
                x, y, heading = (float(v) for v in layout.centre.at(s, d))
                yaw = heading + np.pi * backwards + rng.normal(0, 0.025)
                yaw += np.pi * (rng.random() < 0.06)
                population.add_still(model, x, y, yaw, Role.PARKED)
            s += length / 2 + rng.uniform(0.7, 2.2)


def _draw_parked(rng: np.random.Generator) -> ObjectModel:
    draw = rng.random()
    if draw < 0.80:
        return vehicles.make_car(rng)
    if draw < 0.90:
        return vehicles.make_truck(rng)
    if draw < 0.94:
        return vehicles.make_trailer(rng)
    if draw < 0.97:
        return vehicles.make_bus(rng)
    return vehicles.make_construction_vehicle(rng)


def add_two_wheelers(population: Population) -> None:
    """Add cyclists beside the lanes or on the sidewalk, parked two-wheelers, and bicycle racks."""
    layout, rng = population.layout, population.rng
    sides = (layout.left, layout.right)
    for _ in range(int(rng.integers(2, 9))):
        side = sides[int(rng.integers(2))]
        track = _ride(population, side)
        population.add(people_and_props.make_bicycle(rng, rider=True), track, Role.RIDDEN)
    for _ in range(int(rng.integers(2, 7))):
        side = sides[int(rng.integers(2))]
        s = rng.uniform(30.0, layout.centre.length_m - 30.0)
        maker = (
            people_and_props.make_bicycle
            if rng.random() < 0.5
            else people_and_props.make_motorcycle
        )
        angle = rng.choice([0.0, np.pi / 2, 1.0]) + rng.normal(0, 0.1)
        beside = side.kerb_m + rng.choice([0.9, rng.uniform(0.9, 9.0)])
        for i in range(int(rng.integers(1, 5))):
            x, y, heading = (float(v) for v in layout.centre.at(s + 1.2 * i, side.sign * beside))
            population.add_still(maker(rng, rider=False), x, y, heading + angle, Role.UNRIDDEN)
    for _ in range(int(rng.integers(0, 3))):
        side = sides[int(rng.integers(2))]
        s = rng.uniform(30.0, layout.centre.length_m - 30.0)
        x, y, heading = (float(v) for v in layout.centre.at(s, side.sign * (side.back_m - 1.1)))
        population.add_still(people_and_props.make_bicycle_rack(rng), x, y, heading, Role.THING)


def _ride(population: Population, side: Side) -> Track:
    """Draw the track of a cyclist: on the bicycle lane, or on the sidewalk if there is none."""
    layout, rng = population.layout, population.rng
    speed = float(rng.uniform(2.5, 6.5))
    if side.bike_m:
        offset = side.lanes_edge_m + side.bike_m / 2
    else:
        offset = rng.uniform(side.kerb_m + 0.6, side.back_m - 0.5)
    with_lane = -1.0 if side.sign * layout.hand > 0 else 1.0
    s = rng.uniform(0.0, layout.centre.length_m)
    return walk_on_path(layout.centre, s, with_lane * speed, side.sign * offset, population.steps)


def add_classes(
    population: Population, classes: tuple[str, ...], ego_s_m: tuple[float, float], certain: bool
) -> None:
    """Add objects of some classes beside the ego's path, near enough to be scored.

    Args:
        population: receives the objects.
        classes: of `DETECTION_CLASSES`.
        ego_s_m: arc lengths of the centre line at which the ego starts and ends.
        certain: add several of each class, because the lidar may miss one.
    """
    rng = population.rng
    makers: dict[str, tuple[Callable[[np.random.Generator], ObjectModel], Role]] = {
        "barrier": (people_and_props.make_barrier, Role.THING),
        "bicycle": (lambda r: people_and_props.make_bicycle(r, rider=True), Role.RIDDEN),
        "bus": (vehicles.make_bus, Role.PARKED),
        "car": (vehicles.make_car, Role.PARKED),
        "construction_vehicle": (vehicles.make_construction_vehicle, Role.PARKED),
        "motorcycle": (lambda r: people_and_props.make_motorcycle(r, rider=False), Role.UNRIDDEN),
        "pedestrian": (people_and_props.make_pedestrian, Role.PERSON),
        "traffic_cone": (people_and_props.make_cone, Role.THING),
        "trailer": (vehicles.make_trailer, Role.PARKED),
        "truck": (vehicles.make_truck, Role.PARKED),
    }
    for name in classes:
        maker, role = makers[name]
        for _ in range(_COPIES.get(name, 2) if certain else 1):
            _add_beside_path(population, maker(rng), role, ego_s_m)


def _add_beside_path(
    population: Population, model: ObjectModel, role: Role, ego_s_m: tuple[float, float]
) -> None:
    """Add an object at a random free position; the range grows with every attempt."""
    layout, rng = population.layout, population.rng
    for attempt in range(60):
        side = (layout.left, layout.right)[int(rng.integers(2))]
        first, last = ego_s_m[0] - 8.0 - 0.3 * attempt, ego_s_m[1] + 16.0
        if last < first:  # the ego turned off the road, and its end is nearest to what lies behind
            first, last = ego_s_m[1] - 8.0 - 0.3 * attempt, ego_s_m[0] + 16.0
        s = rng.uniform(first, last)
        if layout.junction_mask(np.array(s), 5.0):
            continue  # keep the junctions free
        reach = model.size_m[1] / 2 + 0.1
        d = side.kerb_m - side.parking_m + reach + rng.uniform(0.0, 6.0 + 0.1 * attempt)
        x, y, heading = (float(v) for v in layout.centre.at(s, side.sign * d))
        yaw = heading + np.pi * float(rng.integers(2)) + rng.normal(0, 0.3)
        if population.add_still(model, x, y, yaw, role):
            return
