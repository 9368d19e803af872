"""Scenery, which is never annotated: buildings, trees, lamp posts and hedges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bevstack.synthetic.objects.vehicles import Colour, vary
from bevstack.synthetic.population.population import Population
from bevstack.synthetic.renderer.primitives import Kind, Pattern, PrimitiveList, Primitives, place
from bevstack.synthetic.streets.roads import Path

_WALLS: tuple[Colour, ...] = (
    (0.62, 0.42, 0.33),
    (0.72, 0.68, 0.60),
    (0.50, 0.52, 0.56),
    (0.78, 0.76, 0.72),
    (0.45, 0.36, 0.30),
    (0.58, 0.60, 0.52),
)
_LEAVES: tuple[Colour, ...] = ((0.20, 0.38, 0.13), (0.28, 0.42, 0.16), (0.34, 0.36, 0.14))
_BARK: Colour = (0.24, 0.18, 0.13)


def place_at(primitives: Primitives, x_m: float, y_m: float, yaw_rad: float) -> Primitives:
    """Transform the primitives of one object to its pose in the scene."""
    count = len(primitives)
    return place(
        primitives, np.full(count, x_m), np.full(count, y_m), np.full(count, float(yaw_rad))
    )


def add_building(
    population: Population,
    x_m: float,
    y_m: float,
    yaw_rad: float,
    size_m: tuple[float, float, float],
) -> bool:
    """Add a building if its footprint is free and off the streets; return True if added."""
    rng = population.rng
    if not population.is_off_road(x_m, y_m, yaw_rad, size_m[:2]):
        return False
    if not population.reserve(x_m, y_m, yaw_rad, size_m[:2]):
        return False
    parts = PrimitiveList("building")
    wall = vary(rng, _WALLS)
    parts.add(Pattern.HOUSE, (0, 0, 0), size_m, wall, colour2=vary(rng, _WALLS, 0.2))
    if size_m[2] < 9.0 and rng.random() < 0.6:  # a pitched roof
        roof = (size_m[0] + 0.6, size_m[1] + 0.6, 0.32 * size_m[1])
        lean = 0.46 * size_m[1]
        parts.add(Pattern.PLAIN, (0, 0, size_m[2]), roof, (0.36, 0.20, 0.16), slopes=(0, 0, lean))
    else:
        cap = (size_m[0] + 0.3, size_m[1] + 0.3, 0.5)
        parts.add(Pattern.PLAIN, (0, 0, size_m[2]), cap, (0.4, 0.4, 0.4))
    house = place_at(parts.finish(), x_m, y_m, yaw_rad)
    house.paint[:, 7] = rng.random()
    population.scenery.append(house)
    return True


def add_tree(population: Population, x_m: float, y_m: float) -> bool:
    """Add a tree of a trunk and a crown if its footprint is free; return True if added."""
    rng = population.rng
    if not population.reserve(x_m, y_m, 0.0, (0.5, 0.5)):
        return False
    height, crown = rng.uniform(4.5, 9.5), rng.uniform(2.2, 4.5)
    leaves = vary(rng, _LEAVES)
    parts = PrimitiveList("vegetation")
    parts.add(Pattern.PLAIN, (0, 0, 0), (0.32, 0.32, 0.55 * height), _BARK, kind=Kind.POST)
    if rng.random() < 0.2:
        parts.add(
            Pattern.FOLIAGE,
            (0, 0, 0.14 * height),
            (0.7 * crown, 0.7 * crown, 0.9 * height),
            leaves,
            slopes=(0.33 * crown, 0.33 * crown, 0.33 * crown),
        )
    else:
        for dx, dy, dz, scale in ((0, 0, 0.36, 1.0), (0.25, 0.2, 0.5, 0.75)):
            size = (crown * scale, crown * scale, 0.62 * height * scale)
            parts.add(
                Pattern.FOLIAGE,
                (dx * crown, dy * crown, dz * height),
                size,
                leaves,
                kind=Kind.ELLIPSOID,
            )
    population.scenery.append(place_at(parts.finish(), x_m, y_m, rng.uniform(0, 6.28)))
    return True


def add_lamp_post(population: Population, x_m: float, y_m: float, yaw_rad: float) -> bool:
    """Add a street lamp, whose arm points along the yaw, if its footprint is free.

    Returns:
        True if it was added.
    """
    if not population.reserve(x_m, y_m, yaw_rad, (0.3, 0.3)):
        return False
    grey = (0.32, 0.34, 0.35)
    parts = PrimitiveList("pole")
    parts.add(Pattern.PLAIN, (0, 0, 0), (0.18, 0.18, 7.5), grey, kind=Kind.POST)
    parts.add(Pattern.PLAIN, (0.8, 0, 7.4), (1.8, 0.12, 0.12), grey)
    parts.add(Pattern.LAMP, (1.5, 0, 7.3), (0.6, 0.26, 0.14), (1.0, 0.86, 0.6))
    population.lamps_m.append((x_m + 1.5 * np.cos(yaw_rad), y_m + 1.5 * np.sin(yaw_rad)))
    population.scenery.append(place_at(parts.finish(), x_m, y_m, yaw_rad))
    return True


def add_hedge(
    population: Population, x_m: float, y_m: float, yaw_rad: float, length_m: float
) -> bool:
    """Add a hedge or a low wall if its footprint is free and off the streets.

    Returns:
        True if it was added.
    """
    rng = population.rng
    size = (length_m, 0.8, float(rng.uniform(0.8, 1.6)))
    if not population.is_off_road(x_m, y_m, yaw_rad, size[:2]):
        return False
    if not population.reserve(x_m, y_m, yaw_rad, size[:2]):
        return False
    grown = rng.random() < 0.6
    parts = PrimitiveList("vegetation" if grown else "building")
    if grown:
        parts.add(Pattern.FOLIAGE, (0, 0, 0), size, vary(rng, _LEAVES))
    else:
        parts.add(Pattern.PLAIN, (0, 0, 0), (size[0], 0.25, size[2]), vary(rng, _WALLS))
    population.scenery.append(place_at(parts.finish(), x_m, y_m, yaw_rad))
    return True


def line_streets(population: Population) -> None:
    """Add trees and lamps along the kerbs of the road and of the ego's cross street."""
    layout = population.layout
    for side in (layout.left, layout.right):
        whole = (0.0, layout.centre.length_m)
        _line_kerb(population, layout.centre, side.sign * side.kerb_m, whole)
    arm = layout.ego_arm()
    if arm is not None:
        street, *s_range = arm
        for kerb in (-street.half_width_m, street.half_width_m):
            _line_kerb(population, street.path, kerb, s_range)


def _line_kerb(
    population: Population, path: Path, kerb_m: float, s_range_m: Sequence[float]
) -> None:
    """Add trees and lamps along a kerb, between two arc lengths and away from junctions."""
    layout, rng = population.layout, population.rng
    sign = float(np.sign(kerb_m))
    with_trees = rng.random() < 0.6
    spacing = rng.uniform(9.0, 22.0)
    for s in np.arange(s_range_m[0] + rng.uniform(0, spacing), s_range_m[1], spacing):
        if path is layout.centre and layout.junction_mask(np.array(s), 8.0):
            continue
        x, y, heading = (float(v) for v in path.at(s, kerb_m + sign * 0.6))
        if with_trees and rng.random() < 0.7:
            add_tree(population, x, y)
        elif rng.random() < 0.5:
            add_lamp_post(population, x, y, heading - sign * np.pi / 2)


def add_skyline(population: Population) -> None:
    """Add large buildings far from the road, which hide parts of the horizon."""
    layout, rng = population.layout, population.rng
    for _ in range(int(rng.integers(6, 26))):
        s = rng.uniform(-60.0, layout.centre.length_m + 60.0)
        d = rng.choice([-1.0, 1.0]) * rng.uniform(45.0, 110.0)
        x, y, heading = (float(v) for v in layout.centre.at(s, d))
        size = (rng.uniform(15, 40), rng.uniform(12, 25), rng.uniform(8, 45))
        add_building(population, x, y, heading + rng.normal(0, 0.2), size)
