"""What is on the street itself: traffic, parked vehicles, two-wheelers, chosen classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.objects import people_and_props as things
from bevstack.synthetic.objects import vehicles
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

# The lidar may miss one small thing, so that a class would be without ground truth.
_COPIES = {"traffic_cone": 4, "bicycle": 3, "motorcycle": 3}  # of others, two


@dataclass(frozen=True)
class Vehicle:
    """Somebody who drives in a lane, and what is seen of it: a lorry with its trailer is two."""

    driver: Driver
    models: list[ObjectModel]  # from the front backwards


def drive_others(population: Population, ego_lane: Lane) -> None:
    """Traffic in every other lane."""
    for lane in population.layout.lanes:
        if lane is ego_lane:
            continue
        order = sorted(draw_vehicles(population, lane), key=lambda v: -v.driver.s_m)
        if not order:
            continue
        drivers = [vehicle.driver for vehicle in order]
        s, speed, braking = drive_lane(lane, drivers, population.layout.signals, population.steps)
        for i, vehicle in enumerate(order):
            add_vehicle(population, lane, vehicle, s[i], speed[i], braking[i])


def _draw_models(rng: np.random.Generator) -> list[ObjectModel]:
    """A vehicle of the traffic; a lorry with its trailer is two."""
    draw = rng.random()
    if draw < 0.74:
        return [vehicles.make_car(rng)]
    if draw < 0.83:
        return [vehicles.make_truck(rng)]
    if draw < 0.89:
        return [vehicles.make_bus(rng)]
    if draw < 0.96:
        return [things.make_motorcycle(rng, rider=True)]
    return [vehicles.make_truck(rng), vehicles.make_trailer(rng)]


def _train_length(models: list[ObjectModel]) -> float:
    return sum(m.size_m[0] for m in models) + 0.8 * (len(models) - 1)


def draw_vehicles(
    population: Population, lane: Lane, keep_free: tuple[float, float] = (1.0, 0.0)
) -> list[Vehicle]:
    """Vehicles along a lane and upstream of it, where they wait for their turn to come in."""
    rng = population.rng
    mean_gap = float(rng.uniform(12.0, 65.0)) if lane.is_main else float(rng.uniform(20.0, 80.0))
    upstream = lane.speed_limit_mps * population.steps * DT_S
    drawn = []
    s = lane.path.length_m - rng.uniform(5.0, 20.0)
    while s > -upstream:
        models = _draw_models(rng)
        length = _train_length(models)
        s -= length / 2
        clear = s + length / 2 < keep_free[0] or s - length / 2 > keep_free[1]
        if clear and not _in_junction(lane, s, length):
            driver = Driver(s, length, float(rng.uniform(0.75, 1.1)))
            drawn.append(Vehicle(driver, models))
        s -= length / 2 + 6.0 + float(rng.exponential(mean_gap))
    return drawn


def _in_junction(lane: Lane, s_m: float, length_m: float) -> bool:
    """Nobody starts inside a junction: the other street may have green."""
    return any(stop.s_m < s_m + length_m / 2 < stop.s_m + 20.0 for stop in lane.stop_lines)


def add_vehicle(
    population: Population,
    lane: Lane,
    vehicle: Vehicle,
    s: np.ndarray,  # (K,) m
    speed: np.ndarray,  # (K,) m/s
    braking: np.ndarray,  # (K,) 0..1
) -> None:
    """Adds what drives in a lane where it would not meet anybody."""
    offset = float(population.rng.normal(0, 0.12))
    front = vehicle.driver.length_m / 2
    for model in vehicle.models:
        half = model.size_m[0] / 2
        track = track_on_path(lane.path, s + front - half, speed, braking, half, offset)
        role = Role.RIDDEN if model.category == "vehicle.motorcycle" else Role.TRAFFIC
        population.add(model, track, role, margin_m=0.05)
        front -= model.size_m[0] + 0.8


def park_along_kerbs(population: Population) -> None:
    """Rows of parked vehicles in the parking strips, nosed as their side drives."""
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
    """Riders beside the lanes or on the walk; parked bicycles and motorcycles; racks."""
    layout, rng = population.layout, population.rng
    sides = (layout.left, layout.right)
    for _ in range(int(rng.integers(2, 9))):
        side = sides[int(rng.integers(2))]
        track = _ride(population, side)
        population.add(things.make_bicycle(rng, rider=True), track, Role.RIDDEN)
    for _ in range(int(rng.integers(2, 7))):
        side = sides[int(rng.integers(2))]
        s = rng.uniform(30.0, layout.centre.length_m - 30.0)
        maker = things.make_bicycle if rng.random() < 0.5 else things.make_motorcycle
        angle = rng.choice([0.0, np.pi / 2, 1.0]) + rng.normal(0, 0.1)
        beside = side.kerb_m + rng.choice([0.9, rng.uniform(0.9, 9.0)])
        for i in range(int(rng.integers(1, 5))):
            x, y, heading = (float(v) for v in layout.centre.at(s + 1.2 * i, side.sign * beside))
            population.add_still(maker(rng, rider=False), x, y, heading + angle, Role.UNRIDDEN)
    for _ in range(int(rng.integers(0, 3))):
        side = sides[int(rng.integers(2))]
        s = rng.uniform(30.0, layout.centre.length_m - 30.0)
        x, y, heading = (float(v) for v in layout.centre.at(s, side.sign * (side.back_m - 1.1)))
        population.add_still(things.make_bicycle_rack(rng), x, y, heading, Role.THING)


def _ride(population: Population, side: Side) -> Track:
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
    """Puts objects of some classes beside the way of the ego, near enough to be scored.

    Args:
        population: where they go.
        classes: of `DETECTION_CLASSES`.
        ego_s_m: where the ego begins and ends along the centre line.
        certain: puts several of each, because the lidar may miss one.
    """
    rng = population.rng
    makers: dict[str, tuple[Callable[[np.random.Generator], ObjectModel], Role]] = {
        "barrier": (things.make_barrier, Role.THING),
        "bicycle": (lambda r: things.make_bicycle(r, rider=True), Role.RIDDEN),
        "bus": (vehicles.make_bus, Role.PARKED),
        "car": (vehicles.make_car, Role.PARKED),
        "construction_vehicle": (vehicles.make_construction_vehicle, Role.PARKED),
        "motorcycle": (lambda r: things.make_motorcycle(r, rider=False), Role.UNRIDDEN),
        "pedestrian": (things.make_pedestrian, Role.PERSON),
        "traffic_cone": (things.make_cone, Role.THING),
        "trailer": (vehicles.make_trailer, Role.PARKED),
        "truck": (vehicles.make_truck, Role.PARKED),
    }
    for name in classes:
        maker, role = makers[name]
        for _ in range(_COPIES.get(name, 2) if certain else 1):
            _add_beside_way(population, maker(rng), role, ego_s_m)


def _add_beside_way(
    population: Population, model: ObjectModel, role: Role, ego_s_m: tuple[float, float]
) -> None:
    layout, rng = population.layout, population.rng
    for attempt in range(60):
        side = (layout.left, layout.right)[int(rng.integers(2))]
        s = rng.uniform(ego_s_m[0] - 8.0 - 0.3 * attempt, ego_s_m[1] + 16.0)
        if layout.junction_mask(np.array(s), 5.0):
            continue  # nothing stands in the mouth of a street
        reach = model.size_m[1] / 2 + 0.1
        d = side.kerb_m - side.parking_m + reach + rng.uniform(0.0, 6.0 + 0.1 * attempt)
        x, y, heading = (float(v) for v in layout.centre.at(s, side.sign * d))
        yaw = heading + np.pi * float(rng.integers(2)) + rng.normal(0, 0.3)
        if population.add_still(model, x, y, yaw, role):
            return
