"""Ground around the vehicle in the key frames of a scene: the map, and the path driven so far."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.geometry import invert_se3
from bevstack.render import Surroundings
from bevstack.render.layers import as_array
from bevstack.tables.street_map import StreetMap, read_street_map
from bevstack.types import Frame

REACH_M = 80.0  # half the side of the square around the vehicle: it covers a turned view of 52 m
TRAIL_S = 15.0  # the path driven in the last seconds


class SceneSurroundings:
    """Map of one scene and positions of the vehicle in its key frames.

    Args:
        dataset: the data set.
        scene: name of the scene.

    Raises:
        ValueError: the data set has no such scene.
    """

    def __init__(self, dataset: NuScenesDataset, scene: str) -> None:
        self._tables = dataset.tables
        self._scene = scene
        samples = self._tables.samples_of_scene(int(self._tables.scene_rows([scene])[0]))
        poses = self._tables.reference_keyframes(samples)
        self._times_us = self._tables.samples.timestamp_us[samples]
        self._positions_m = self._tables.keyframes.translation[poses, :2]

    @cached_property
    def street_map(self) -> StreetMap:
        """Return the map, which is read on first use."""
        low_m, high_m = self._positions_m.min(0) - REACH_M, self._positions_m.max(0) + REACH_M
        return read_street_map(self._tables, self._scene, low_m, high_m)

    def around(self, frame: Frame) -> Surroundings:
        """Return the ground around a frame of the scene, in its ego frame.

        Raises:
            ValueError: the map's table is damaged.
        """
        assert frame.world_from_ego is not None  # the tables hold every pose
        world_from_ego = as_array(frame.world_from_ego)
        center_m = world_from_ego[:2, 3]
        world = Surroundings(
            drivable=self.street_map.drivable_around(center_m, REACH_M),
            lanes=self.street_map.lanes_around(center_m, REACH_M),
            trail=self._trail(frame.timestamp_us, center_m),
        )
        return world.transformed(as_array(invert_se3(frame.world_from_ego)))

    def _trail(
        self, time_us: int, position_m: NDArray[np.float64]
    ) -> NDArray[np.float64]:  # (P, 2)
        age_s = (time_us - self._times_us) * 1e-6
        earlier = (age_s > 0) & (age_s <= TRAIL_S)
        return np.concatenate((self._positions_m[earlier], position_m[None]))
