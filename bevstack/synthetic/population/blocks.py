"""Blocks of land beside the road: houses, car parks, yards, building sites and parks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.objects import people_and_props, vehicles
from bevstack.synthetic.population.population import Population, Role
from bevstack.synthetic.population.scenery import add_building, add_hedge, add_tree
from bevstack.synthetic.streets.ground import Lot
from bevstack.synthetic.streets.roads import Path, RoadLayout

_KINDS = ("houses", "car_park", "yard", "site", "park")
_COLOURS = {
    "car_park": (0.36, 0.36, 0.37),
    "yard": (0.47, 0.45, 0.42),
    "site": (0.52, 0.42, 0.30),
    "park": (0.30, 0.42, 0.20),
}


@dataclass(frozen=True)
class Block:
    """A rectangle of land beside the road.

    Its frame: origin in the middle of the edge at the road, x along the road, y away from it.
    """

    kind: str
    origin_m: NDArray[np.float64]  # (2,) in the scene frame
    heading_rad: float  # of the x axis
    away: float  # +1: y is to the left of x, -1: to the right
    length_m: float
    depth_m: float

    def to_scene(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Transform a point from the block (x in +-length / 2, y in 0..depth) to the scene."""
        cos, sin = np.cos(self.heading_rad), np.sin(self.heading_rad)
        y = self.away * y_m
        return (
            float(self.origin_m[0] + cos * x_m - sin * y),
            float(self.origin_m[1] + sin * x_m + cos * y),
        )


def plan_blocks(layout: RoadLayout, rng: np.random.Generator) -> list[Block]:
    """Divide the land along the road, and along the ego's cross street, into random blocks."""
    weights = rng.dirichlet(np.array([2.6, 2.0, 0.8, 0.6, 1.2]))
    blocks = []
    for side in (layout.left, layout.right):
        whole = (0.0, layout.centre.length_m)
        blocks += _blocks_along(layout.centre, side.sign * side.back_m, whole, rng, weights)
    arm = layout.ego_arm()
    if arm is not None:
        street, *s_range = arm
        for back in (-street.half_width_m - street.walk_m, street.half_width_m + street.walk_m):
            blocks += _blocks_along(street.path, back, s_range, rng, weights)
    return blocks


def _blocks_along(
    path: Path,
    back_m: float,  # offset of the sidewalk's far edge
    s_range_m: Sequence[float],  # first and last arc length
    rng: np.random.Generator,
    weights: NDArray[np.float64],  # (kinds,)
) -> list[Block]:
    """Draw a row of blocks along one side of a street."""
    blocks = []
    s, end = s_range_m
    sign = float(np.sign(back_m))
    while s < end:
        length = float(rng.uniform(16.0, 42.0))
        gap = abs(back_m) + float(rng.uniform(0.4, 5.0))
        x, y, heading = path.at(s + length / 2, sign * gap)
        kind = _KINDS[int(rng.choice(len(_KINDS), p=weights))]
        depth = float(rng.uniform(10.0, 26.0))
        origin = np.array([float(x), float(y)])
        blocks.append(Block(kind, origin, float(heading), sign, length, depth))
        s += length + float(rng.uniform(0.0, 6.0))
    return blocks


def block_lots(blocks: list[Block]) -> list[Lot]:
    """Return the coloured ground of the blocks."""
    lots = []
    for block in blocks:
        if block.kind in _COLOURS:
            half = block.length_m / 2
            corners = [(-half, 0.0), (half, 0.0), (half, block.depth_m), (-half, block.depth_m)]
            points = np.array([block.to_scene(x, y) for x, y in corners])
            lots.append(Lot(points, _COLOURS[block.kind]))
    return lots


def fill_blocks(population: Population, blocks: list[Block]) -> None:
    """Fill every block according to its kind."""
    fill = {
        "houses": _fill_houses,
        "car_park": _fill_car_park,
        "yard": _fill_yard,
        "site": _fill_site,
        "park": _fill_park,
    }
    for block in blocks:
        fill[block.kind](population, block)


def _fill_houses(population: Population, block: Block) -> None:
    rng = population.rng
    x = -block.length_m / 2
    while x < block.length_m / 2 - 5.0:
        width = min(float(rng.uniform(7.0, 18.0)), block.length_m / 2 - x)
        depth = min(block.depth_m, 14.0)
        height = float(rng.choice([rng.uniform(4, 8), rng.uniform(9, 24)]))
        at = block.to_scene(x + width / 2, depth / 2 + rng.uniform(0, 2))
        add_building(population, *at, block.heading_rad, (width - 0.3, depth, height))
        x += width + float(rng.choice([0.6, 3.0]))


def _fill_car_park(population: Population, block: Block) -> None:
    rng = population.rng
    angle = float(rng.choice([np.pi / 2, np.pi / 3, np.pi / 4, 0.0]))
    pitch = 6.6 if angle == 0.0 else 2.75 / np.sin(angle)
    row_depth = 2.9 if angle == 0.0 else 5.6
    filled = rng.uniform(0.25, 0.85)
    for y in np.arange(row_depth / 2 + 0.3, block.depth_m - row_depth / 2, row_depth + 5.5):
        flip = float(rng.integers(2)) * np.pi
        for x in np.arange(-block.length_m / 2 + 3.0, block.length_m / 2 - 3.0, pitch):
            if rng.random() > filled:
                continue
            yaw = block.heading_rad + angle + flip + rng.normal(0, 0.03)
            yaw += np.pi * (rng.random() < 0.2)
            model = vehicles.make_car(rng) if rng.random() < 0.93 else vehicles.make_truck(rng)
            at = block.to_scene(x, y + rng.normal(0, 0.15))
            population.add_still(model, *at, yaw, Role.PARKED, off_road=True)


def _fill_yard(population: Population, block: Block) -> None:
    """Add trailers, trucks, buses and machines, all parallel."""
    rng = population.rng
    yaw = block.heading_rad + float(rng.uniform(0, 2 * np.pi))
    makers = (
        vehicles.make_trailer,
        vehicles.make_truck,
        vehicles.make_bus,
        vehicles.make_construction_vehicle,
    )
    for _ in range(int(rng.integers(3, 8))):
        maker = makers[int(rng.choice(4, p=[0.45, 0.25, 0.15, 0.15]))]
        half = block.length_m / 2 - 3.0
        at = block.to_scene(rng.uniform(-half, half), rng.uniform(3.0, block.depth_m))
        turn = yaw + np.pi * float(rng.integers(2)) + rng.normal(0, 0.05)
        population.add_still(maker(rng), *at, turn, Role.PARKED, margin_m=0.5, off_road=True)


def _fill_site(population: Population, block: Block) -> None:
    """Add barriers along the sidewalk, machines, workers, cones and an unfinished building."""
    rng = population.rng
    along = block.heading_rad + np.pi / 2
    for x in np.arange(-block.length_m / 2 + 1.5, block.length_m / 2 - 1.5, 2.65):
        if rng.random() < 0.8:
            at = block.to_scene(x, 0.5 + rng.normal(0, 0.05))
            yaw = along + rng.normal(0, 0.04) + np.pi * float(rng.integers(2))
            population.add_still(
                people_and_props.make_barrier(rng), *at, yaw, Role.THING, margin_m=0.01
            )
    half = block.length_m / 2 - 3.0
    for _ in range(int(rng.integers(1, 4))):
        at = block.to_scene(rng.uniform(-half, half), rng.uniform(4.0, block.depth_m - 2.0))
        machine = vehicles.make_construction_vehicle(rng)
        population.add_still(machine, *at, rng.uniform(0, 6.28), Role.PARKED, off_road=True)
    for _ in range(int(rng.integers(2, 6))):
        at = block.to_scene(rng.uniform(-half, half), rng.uniform(1.5, block.depth_m))
        worker = people_and_props.make_pedestrian(rng, worker=True)
        population.add_still(worker, *at, rng.uniform(0, 6.28), Role.PERSON, off_road=True)
    for _ in range(int(rng.integers(2, 8))):
        at = block.to_scene(rng.uniform(-half, half), rng.uniform(1.2, block.depth_m))
        population.add_still(people_and_props.make_cone(rng), *at, rng.uniform(0, 6.28), Role.THING)
    size = (rng.uniform(8, 14), rng.uniform(6, 9), rng.uniform(5, 14))
    add_building(population, *block.to_scene(0.0, block.depth_m + 2.0), block.heading_rad, size)


def _fill_park(population: Population, block: Block) -> None:
    rng = population.rng
    half = block.length_m / 2
    if rng.random() < 0.5:
        at = block.to_scene(0.0, 0.6)
        add_hedge(population, *at, block.heading_rad, 1.6 * half)
    for _ in range(int(rng.integers(3, 12))):
        add_tree(
            population, *block.to_scene(rng.uniform(-half, half), rng.uniform(1.5, block.depth_m))
        )
    for _ in range(int(rng.integers(0, 4))):
        at = block.to_scene(rng.uniform(-half, half), rng.uniform(1.0, 10.0))
        person = people_and_props.make_pedestrian(rng)
        population.add_still(person, *at, rng.uniform(0, 6.28), Role.PERSON, off_road=True)
