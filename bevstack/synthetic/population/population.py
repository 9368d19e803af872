"""The objects of a scene, and the one door through which they come in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from bevstack.synthetic.objects.appearance_splits import Family
from bevstack.synthetic.objects.vehicles import ObjectModel
from bevstack.synthetic.population.collision_check import Occupancy
from bevstack.synthetic.population.traffic import Track, stand_still
from bevstack.synthetic.renderer.primitives import Primitives
from bevstack.synthetic.streets.ground import OFF_ROAD, Ground
from bevstack.synthetic.streets.roads import RoadLayout


class Role(Enum):
    """How an object behaves; decides its attribute together with its speed."""

    TRAFFIC = "traffic"  # a vehicle in a lane: moving or stopped
    PARKED = "parked"
    RIDDEN = "ridden"  # a two-wheeler with its rider
    UNRIDDEN = "unridden"
    PERSON = "person"
    THING = "thing"  # no attribute


@dataclass(frozen=True)
class SceneObject:
    """An annotated object and its motion."""

    model: ObjectModel
    track: Track
    role: Role


class Population:
    """Collects objects and scenery that do not touch each other.

    Args:
        layout: streets of the scene.
        ground: their drawing.
        steps: length of the time grid.
        rng: source of all draws of whoever fills this population.
        family: dresses every object.
    """

    def __init__(
        self,
        layout: RoadLayout,
        ground: Ground,
        *,
        steps: int,
        rng: np.random.Generator,
        family: Family,
    ) -> None:
        self.layout = layout
        self.ground = ground
        self.steps = steps
        self.rng = rng
        self._family = family
        self.objects: list[SceneObject] = []
        self.scenery: list[Primitives] = []  # in the scene's frame
        self.lamps_m: list[tuple[float, float]] = []  # x, y below each street lamp
        self._occupancy = Occupancy(steps)

    def add(self, model: ObjectModel, track: Track, role: Role, margin_m: float = 0.15) -> bool:
        """Adds an object unless its footprint would meet another one at some moment."""
        return self._add(self._family.dress(model, self.rng), track, role, margin_m)

    def _add(self, model: ObjectModel, track: Track, role: Role, margin_m: float) -> bool:
        length, width, _ = model.size_m
        if not track.alive.any() or not self._occupancy.try_add(track, (length, width), margin_m):
            return False
        self.objects.append(SceneObject(model, track, role))
        return True

    def add_still(
        self,
        model: ObjectModel,
        x_m: float,
        y_m: float,
        yaw_rad: float,
        role: Role,
        *,
        margin_m: float = 0.15,
        off_road: bool = False,
    ) -> bool:
        """Adds an object that stands still, with `off_road` only if no part is on a street."""
        model = self._family.dress(model, self.rng)
        if off_road and not self.is_off_road(x_m, y_m, yaw_rad, model.size_m[:2]):
            return False
        return self._add(model, stand_still(x_m, y_m, yaw_rad, self.steps), role, margin_m)

    def reserve(self, x_m: float, y_m: float, yaw_rad: float, size_m: tuple[float, float]) -> bool:
        """Takes a footprint for scenery."""
        return self._occupancy.try_add(stand_still(x_m, y_m, yaw_rad, self.steps), size_m, 0.3)

    def reserve_track(self, track: Track, size_m: tuple[float, float]) -> None:
        """Takes the way of the ego, before anything else is there."""
        self._occupancy.try_add(track, size_m, 0.0)

    def is_off_road(
        self, x_m: float, y_m: float, yaw_rad: float, size_m: tuple[float, ...]
    ) -> bool:
        """Whether a footprint lies beside all streets and walks."""
        count = [max(2, int(s / 2.0) + 1) for s in size_m[:2]]
        u, v = np.meshgrid(
            np.linspace(-size_m[0] / 2, size_m[0] / 2, count[0]),
            np.linspace(-size_m[1] / 2, size_m[1] / 2, count[1]),
        )
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        kinds = self.ground.surface_at(x_m + cos * u - sin * v, y_m + sin * u + cos * v)
        return bool((kinds == OFF_ROAD).all())
