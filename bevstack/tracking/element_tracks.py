"""Tracked traffic lights and signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Elements:
    """States of E lights and signs at one moment, in the order in which they were first seen.

    Every element has two filters in the world frame: it stands still, or it moves at a constant
    velocity as a tail lamp does. ``moving_log_odds`` compares them.
    """

    identity: NDArray[np.str_]  # (E,) UUIDs
    category: Integers  # (E,) TRAFFIC_LIGHT or ROAD_SIGN
    position_m: Floats  # (E, 3) of the filter that stands still
    covariance_m2: Floats  # (E, 3, 3)
    motion: Floats  # (E, 6) position and velocity of the filter that moves
    motion_covariance: Floats  # (E, 6, 6)
    moving_log_odds: Floats  # (E,) that it moves
    yaw_rad: Floats  # (E,) direction that the face points to, in the world frame
    yaw_variance: Floats  # (E,) radians squared
    height_m: Floats  # (E,) of the last box, at its distance
    lamp_box: NDArray[np.bool_]  # (E,) True: the last box surrounded the lit lamp alone
    existence_log_odds: Floats  # (E,)
    hits: Integers  # (E,) number of frames with a box
    first_seen_us: Integers  # (E,)
    last_seen_us: Integers  # (E,)
    last_inside_us: Integers  # (E,) last time in reach of a camera
    cameras: Integers  # (E,) bit n: camera n has shown it

    def __len__(self) -> int:
        """Return E."""
        return len(self.category)

    def __getitem__(self, rows: Integers | NDArray[np.bool_] | slice) -> Elements:
        """Return some of the elements."""
        return Elements(*(getattr(self, item.name)[rows] for item in fields(self)))

    @staticmethod
    def empty() -> Elements:
        """Return no elements."""
        axes = {
            "position_m": (3,),
            "covariance_m2": (3, 3),
            "motion": (6,),
            "motion_covariance": (6, 6),
        }
        kinds = {"identity": "<U36", "lamp_box": "bool"}
        for name in ("category", "hits", "first_seen_us", "last_seen_us", "last_inside_us"):
            kinds[name] = "int64"
        kinds["cameras"] = "int64"
        return Elements(
            *(
                np.zeros((0, *axes.get(item.name, ())), kinds.get(item.name, "float64"))
                for item in fields(Elements)
            )
        )

    @staticmethod
    def concatenate(parts: Sequence[Elements]) -> Elements:
        """Concatenate several sets of elements."""
        return Elements(
            *(
                np.concatenate([getattr(part, item.name) for part in parts])
                for item in fields(Elements)
            )
        )

    @property
    def confidence(self) -> Floats:  # (E,)
        """Return the probability that each element exists."""
        return np.asarray(1 / (1 + np.exp(-self.existence_log_odds)))

    @property
    def speed_mps(self) -> tuple[Floats, Floats]:  # (E,), (E,)
        """Return speed and its standard deviation, of the filter that moves, on the ground."""
        velocity = self.motion[:, 3:5]
        speed = np.linalg.norm(velocity, axis=1)
        variance = self.motion_covariance[:, 3:5, 3:5]
        return speed, np.sqrt(np.trace(variance, axis1=1, axis2=2) / 2)


@dataclass(frozen=True)
class ElementScene:
    """Elements of a stream after a frame: the input of the next frame's update."""

    elements: Elements
    timestamp_us: int
    scene_token: str
    rows: Integers  # (E, N) row of the element's detection in each camera's image, -1: none
    inside: NDArray[np.bool_]  # (E, N) the camera should show it
    covered: NDArray[np.bool_]  # (E,) its place lies in the box of another one like it

    @property
    def missed(self) -> NDArray[np.bool_]:  # (E,)
        """Return the elements without a box that an image of this frame should show."""
        return np.asarray(self.inside.any(1) & ~self.seen & ~self.covered)

    @property
    def seen(self) -> NDArray[np.bool_]:  # (E,)
        """Return the elements with a box in this frame."""
        return np.asarray((self.rows >= 0).any(1))
