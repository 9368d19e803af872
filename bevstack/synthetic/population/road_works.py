"""Barriers and cones in rows, people off the walks, and things outside the classes."""

from __future__ import annotations

import numpy as np

from bevstack.synthetic.objects import people_and_props as things
from bevstack.synthetic.population.population import Population, Role
from bevstack.synthetic.population.traffic import walk_on_path
from bevstack.synthetic.streets.roads import Path, near_junction, path_through

_ROAM_M = 80.0  # length of a walk across open ground


def add_road_works(population: Population) -> None:
    """Rows of barriers and of cones, along kerbs and across open ground; single odd things."""
    rng = population.rng
    for _ in range(int(rng.integers(0, 4))):
        row, turn = _draw_row(population)
        s = 0.0
        for _ in range(int(rng.integers(3, 9))):
            barrier = things.make_barrier(rng)
            width = barrier.size_m[1]
            x, y, heading = (float(v) for v in row.at(s + width / 2))
            yaw = heading + turn + rng.normal(0, 0.05)
            population.add_still(barrier, x, y, yaw, Role.THING, margin_m=0.01)
            s += width + float(rng.uniform(0.03, 0.4))
    for _ in range(int(rng.integers(0, 4))):
        row, _ = _draw_row(population)
        pitch = float(rng.uniform(1.2, 4.5))
        for i in range(int(rng.integers(3, 9))):
            x, y, _ = (float(v) for v in row.at(pitch * i + rng.normal(0, 0.2), rng.normal(0, 0.2)))
            cone = things.make_cone(rng)
            population.add_still(cone, x, y, rng.uniform(0, 6.28), Role.THING)
    for _ in range(int(rng.integers(1, 5))):
        row, _ = _draw_row(population)
        x, y, _ = (float(v) for v in row.at(0.0))
        population.add_still(things.make_clutter(rng), x, y, rng.uniform(0, 6.28), Role.THING)


def _draw_row(population: Population) -> tuple[Path, float]:
    """A line for a row, and the turn (rad) by which its barriers face the road or not."""
    layout, rng = population.layout, population.rng
    side = (layout.left, layout.right)[int(rng.integers(2))]
    s = float(rng.uniform(40.0, layout.centre.length_m - 40.0))
    facing = float(rng.choice([-1.0, 1.0])) * np.pi / 2
    if rng.random() < 0.45:  # along the kerb, on either side of it
        offset = side.sign * (side.kerb_m + float(rng.uniform(-0.9, 1.4)))
        stretch = s + np.arange(0.0, 40.0)
        x, y, _ = layout.centre.at(stretch, offset)
        return path_through(np.stack([x, y], axis=1)), facing
    offset = side.sign * (side.kerb_m + float(rng.uniform(0.5, 18.0)))
    x, y, heading = (float(v) for v in layout.centre.at(s, offset))
    return _straight(x, y, heading + float(rng.uniform(0, 2 * np.pi)), 40.0), facing


def _straight(x_m: float, y_m: float, yaw_rad: float, length_m: float) -> Path:
    along = np.array([0.0, length_m])
    return path_through(
        np.stack([x_m + along * np.cos(yaw_rad), y_m + along * np.sin(yaw_rad)], axis=1)
    )


def add_roamers(population: Population) -> None:
    """People who cross the ground beside the streets in any direction."""
    layout, rng = population.layout, population.rng
    for _ in range(int(rng.integers(4, 24))):
        side = (layout.left, layout.right)[int(rng.integers(2))]
        s = rng.uniform(10.0, layout.centre.length_m - 10.0)
        offset = side.sign * (side.back_m + rng.uniform(0.0, 25.0))
        x, y, _ = (float(v) for v in layout.centre.at(s, offset))
        yaw = float(rng.uniform(0, 2 * np.pi))
        if rng.random() < 0.3:
            person = things.make_pedestrian(rng)
            population.add_still(person, x, y, yaw, Role.PERSON, off_road=True)
            continue
        way = _straight(x, y, yaw, _ROAM_M)
        speed = float(np.clip(rng.normal(1.3, 0.3), 0.5, 2.4))
        track = walk_on_path(way, 8.0, speed, 0.0, population.steps)
        ends = track.pose[[0, -1]]
        strays = near_junction(layout, *track.pose[::5, :2].T).any()  # they cross by the light
        if not strays and all(population.is_off_road(*pose, (1.0, 1.0)) for pose in ends):
            walker = things.make_pedestrian(rng, walks=True)
            population.add(walker, track, Role.PERSON)
