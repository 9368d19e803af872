"""Rows of barriers and cones, clutter, and people who walk off the sidewalks."""

from __future__ import annotations

import numpy as np

from bevstack.synthetic.objects import people_and_props
from bevstack.synthetic.population.population import Population, Role
from bevstack.synthetic.population.traffic import walk_on_path
from bevstack.synthetic.streets.roads import Path, near_junction, path_through

_ROAM_M = 80.0  # length of a walk across open ground


def add_road_works(population: Population) -> None:
    """Add rows of barriers and cones along kerbs and across open ground, and single clutter."""
    rng = population.rng
    for _ in range(int(rng.integers(0, 4))):
        row, turn = _draw_row(population)
        s = 0.0
        for _ in range(int(rng.integers(3, 9))):
            barrier = people_and_props.make_barrier(rng)
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
            cone = people_and_props.make_cone(rng)
            population.add_still(cone, x, y, rng.uniform(0, 6.28), Role.THING)
    for _ in range(int(rng.integers(1, 5))):
        row, _ = _draw_row(population)
        x, y, _ = (float(v) for v in row.at(0.0))
        population.add_still(
            people_and_props.make_clutter(rng), x, y, rng.uniform(0, 6.28), Role.THING
        )


def _draw_row(population: Population) -> tuple[Path, float]:
    """Draw the line of a row, and the yaw (rad) of its barriers relative to the line."""
    layout, rng = population.layout, population.rng
    side = (layout.left, layout.right)[int(rng.integers(2))]
    s = float(rng.uniform(40.0, layout.centre.length_m - 40.0))
    facing = float(rng.choice([-1.0, 1.0])) * np.pi / 2
    if rng.random() < 0.45:  # along the kerb, on either side of it
        offset = side.sign * (side.kerb_m + float(rng.uniform(-0.9, 1.4)))
        xs, ys, _ = layout.centre.at(s + np.arange(0.0, 40.0), offset)
        return path_through(np.stack([xs, ys], axis=1)), facing
    offset = side.sign * (side.kerb_m + float(rng.uniform(0.5, 18.0)))
    x, y, heading = (float(v) for v in layout.centre.at(s, offset))
    return _straight(x, y, heading + float(rng.uniform(0, 2 * np.pi)), 40.0), facing


def _straight(x_m: float, y_m: float, yaw_rad: float, length_m: float) -> Path:
    along = np.array([0.0, length_m])
    return path_through(
        np.stack([x_m + along * np.cos(yaw_rad), y_m + along * np.sin(yaw_rad)], axis=1)
    )


def add_roamers(population: Population) -> None:
    """Add people who stand or walk beside the streets, in any direction."""
    layout, rng = population.layout, population.rng
    for _ in range(int(rng.integers(4, 24))):
        side = (layout.left, layout.right)[int(rng.integers(2))]
        s = rng.uniform(10.0, layout.centre.length_m - 10.0)
        offset = side.sign * (side.back_m + rng.uniform(0.0, 25.0))
        x, y, _ = (float(v) for v in layout.centre.at(s, offset))
        yaw = float(rng.uniform(0, 2 * np.pi))
        if rng.random() < 0.3:
            person = people_and_props.make_pedestrian(rng)
            population.add_still(person, x, y, yaw, Role.PERSON, off_road=True)
            continue
        path = _straight(x, y, yaw, _ROAM_M)
        speed = float(np.clip(rng.normal(1.3, 0.3), 0.5, 2.4))
        track = walk_on_path(path, 8.0, speed, 0.0, population.steps)
        # at junctions, only people who obey the signals may cross
        enters_junction = near_junction(layout, *track.pose[::5, :2].T).any()
        if not enters_junction and all(
            population.is_off_road(float(x), float(y), float(yaw), (1.0, 1.0))
            for x, y, yaw in track.pose[[0, -1]]
        ):
            walker = people_and_props.make_pedestrian(rng, walks=True)
            population.add(walker, track, Role.PERSON)
