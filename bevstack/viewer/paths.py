"""Paths of tracks and objects over a scene, and the trails that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, Floats, Indices, Trail

TRAIL_S = 8.0  # places of the last seconds


@dataclass(frozen=True, kw_only=True)
class ObjectPaths:
    """Places of the boxes that have an identity, in the world frame, in any order."""

    source: str  # name of the model; "": true
    scene: Indices  # (P,) row of the scene
    timestamp_us: Indices  # (P,)
    identity: Indices  # (P,)
    place_m: Floats  # (P, 3) centres in the world

    def trails(
        self,
        boxes: BoxArrays,  # of a moment
        scene: int,
        timestamp_us: int,
        world_from_ego: Floats,  # (4, 4)
    ) -> list[Trail]:
        """Return the trail of each box that was somewhere before, in the moment's ego frame."""
        age_s = (timestamp_us - self.timestamp_us) * 1e-6
        recent = (self.scene == scene) & (age_s >= 0) & (age_s <= TRAIL_S)
        rows = np.flatnonzero(recent)
        rows = rows[np.argsort(self.timestamp_us[rows], kind="stable")]
        rotation, origin = world_from_ego[:3, :3], world_from_ego[:3, 3]
        trails = []
        for identity, label in zip(boxes.identity.tolist(), boxes.label.tolist(), strict=True):
            own = rows[self.identity[rows] == identity]
            if identity == NO_IDENTITY or len(own) < 2:
                continue
            trails.append(
                Trail(
                    identity=identity,
                    label=label,
                    points_m=(self.place_m[own] - origin) @ rotation,
                    times_s=-age_s[own],
                    source=self.source,
                )
            )
        return trails
