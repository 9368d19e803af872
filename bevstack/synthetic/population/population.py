"""Objects and scenery of a scene, added one by one without collisions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from bevstack.synthetic.objects.appearance_splits import AppearanceSplit
from bevstack.synthetic.objects.vehicles import ObjectModel
from bevstack.synthetic.population.collision_check import CollisionCheck
from bevstack.synthetic.population.traffic import Track, stand_still
from bevstack.synthetic.renderer.primitives import Primitives
from bevstack.synthetic.streets.ground import OFF_ROAD, Ground
from bevstack.synthetic.streets.roads import RoadLayout


class Role(Enum):
    """Behaviour of an object; with its speed, it determines the nuScenes attribute."""

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
    """Objects and scenery of a scene that do not touch each other.

    Args:
        layout: streets of the scene.
        ground: ground of the scene.
        steps: length of the time grid.
        rng: source of all random draws for this scene's objects.
        appearance: change of size and paint, applied to every object.
    """

    def __init__(
        self,
        layout: RoadLayout,
        ground: Ground,
        *,
        steps: int,
        rng: np.random.Generator,
        appearance: AppearanceSplit,
    ) -> None:
        self.layout = layout
        self.ground = ground
        self.steps = steps
        self.rng = rng
        self._appearance = appearance
        self.objects: list[SceneObject] = []
        self.scenery: list[Primitives] = []  # in the scene frame
        self.lamps_m: list[tuple[float, float]] = []  # x, y below each street lamp
        self._collision_check = CollisionCheck(steps)

    def add(self, model: ObjectModel, track: Track, role: Role, margin_m: float = 0.15) -> bool:
        """Add an object unless its footprint overlaps another one at any time.

        Returns:
            True if it was added.
        """
        return self._add(self._appearance.restyle(model, self.rng), track, role, margin_m)

    def _add(self, model: ObjectModel, track: Track, role: Role, margin_m: float) -> bool:
        length, width, _ = model.size_m
        if not track.alive.any():
            return False
        if not self._collision_check.try_add(track, (length, width), margin_m):
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
        """Add an object that stands still.

        Args:
            model: the object.
            x_m: in the scene frame.
            y_m: in the scene frame.
            yaw_rad: in the scene frame.
            role: its behaviour.
            margin_m: free space required around it.
            off_road: add it only if no part of it is on a street or sidewalk.

        Returns:
            True if it was added.
        """
        model = self._appearance.restyle(model, self.rng)
        if off_road and not self.is_off_road(x_m, y_m, yaw_rad, model.size_m[:2]):
            return False
        return self._add(model, stand_still(x_m, y_m, yaw_rad, self.steps), role, margin_m)

    def reserve(self, x_m: float, y_m: float, yaw_rad: float, size_m: tuple[float, float]) -> bool:
        """Allocate a footprint for scenery; return False if it is not free."""
        still = stand_still(x_m, y_m, yaw_rad, self.steps)
        return self._collision_check.try_add(still, size_m, 0.3)

    def reserve_track(self, track: Track, size_m: tuple[float, float]) -> None:
        """Allocate the footprint of the ego along its track, before anything else is added."""
        self._collision_check.try_add(track, size_m, 0.0)

    def is_off_road(
        self, x_m: float, y_m: float, yaw_rad: float, size_m: tuple[float, ...]
    ) -> bool:
        """Return True if no part of a footprint is on a street or sidewalk."""
        count = [max(2, int(s / 2.0) + 1) for s in size_m[:2]]
        u, v = np.meshgrid(
            np.linspace(-size_m[0] / 2, size_m[0] / 2, count[0]),
            np.linspace(-size_m[1] / 2, size_m[1] / 2, count[1]),
        )
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        kinds = self.ground.surface_at(x_m + cos * u - sin * v, y_m + sin * u + cos * v)
        return bool((kinds == OFF_ROAD).all())
