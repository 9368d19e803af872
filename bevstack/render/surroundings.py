"""Ground around a vehicle: drivable area, lanes, and the path driven so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (P, 2) metres


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Ground around a vehicle, in one frame whose z axis points up.

    Every part may be empty: then it is not known, and not drawn.
    """

    drivable: tuple[Points, ...] = ()  # outlines, holes among them (even-odd rule)
    lanes: tuple[Points, ...] = ()  # centre lines, or the borders between lanes
    trail: Points | None = None  # positions of the vehicle, oldest first, the current one last

    def transformed(
        self,
        dst_from_src: NDArray[np.float64],  # (4, 4)
    ) -> Surroundings:
        """Return the same ground in another frame whose z axis points up.

        Ground has no height: a small pitch or roll between the frames shortens it by its cosine.
        """
        move = _mover(dst_from_src)
        return Surroundings(
            drivable=tuple(map(move, self.drivable)),
            lanes=tuple(map(move, self.lanes)),
            trail=None if self.trail is None else move(self.trail),
        )


def _mover(transform: NDArray[np.float64]) -> Callable[[Points], Points]:
    rotation, offset = transform[:2, :2], transform[:2, 3]

    def move(points: Points) -> Points:
        moved: Points = points @ rotation.T + offset
        return moved

    return move
