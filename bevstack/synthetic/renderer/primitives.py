"""Shapes that all objects consist of: boxes with sloped sides, ellipsoids, cylinders and rings.

Primitives are rows of three arrays, so that compiled loops read them directly. Their frame has z
up, and a primitive is rotated about z only.

Letters: P primitives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from bevstack.vocabulary import SEMANTIC_CLASSES

# Columns of `Primitives.geometry`.
GEOMETRY_COLUMNS = 12
G_X, G_Y, G_Z, G_COS, G_SIN, G_HX, G_HY, G_HZ, G_FRONT, G_BACK, G_SIDE, G_HOLE = range(12)
# Columns of `Primitives.codes`.
CODE_COLUMNS = 4
C_KIND, C_PATTERN, C_INSTANCE, C_SEMANTIC = range(4)
# Columns of `Primitives.paint`.
PAINT_COLUMNS = 8
P_RED, P_GREEN, P_BLUE, P_RED2, P_GREEN2, P_BLUE2, P_STATE, P_SEED = range(8)


class Kind(IntEnum):
    """Shape of a primitive; selects the ray intersection."""

    BOX = 0
    ELLIPSOID = 1
    WHEEL = 2  # cylinder, axis y
    RING = 3  # a wheel with a hole of radius G_HOLE
    POST = 4  # cylinder, axis z


class Pattern(IntEnum):
    """Paint of a primitive; see `patterns`."""

    PLAIN = 0
    CAR_BODY = 1
    CAR_CABIN = 2
    BUS_BODY = 3
    CARGO = 4
    TRUCK_CAB = 5
    TYRE = 6
    STRIPES = 7
    BANDS = 8
    CONTAINER = 9
    HOUSE = 10
    FOLIAGE = 11
    HEAD = 12
    TORSO = 13
    VEST = 14
    MACHINE = 15
    MACHINE_CABIN = 16
    LAMP = 17
    TRAFFIC_LIGHT = 18
    SIGN = 19
    LIGHT_HEAD = 20
    NUMBERED_SIGN = 21
    ADVERTISEMENT = 22


@dataclass(frozen=True)
class Primitives:
    """P primitives in one frame."""

    geometry: NDArray[np.float64]  # (P, 12) centre m, cos, sin yaw, half sizes m, slopes, hole m
    codes: NDArray[np.int32]  # (P, 4) kind, pattern, instance (-1 for none), semantic class
    paint: NDArray[np.float32]  # (P, 8) first colour, second colour (0..1), state, seed

    def __len__(self) -> int:
        """Return the number of primitives."""
        return len(self.geometry)


def concatenate(parts: list[Primitives]) -> Primitives:
    """Concatenate sets of primitives in order; an empty list gives an empty set."""
    if not parts:
        return Primitives(
            np.zeros((0, GEOMETRY_COLUMNS)),
            np.zeros((0, CODE_COLUMNS), np.int32),
            np.zeros((0, PAINT_COLUMNS), np.float32),
        )
    return Primitives(
        np.concatenate([p.geometry for p in parts]),
        np.concatenate([p.codes for p in parts]),
        np.concatenate([p.paint for p in parts]),
    )


class PrimitiveList:
    """Builder of `Primitives`: `add` takes a shape by its lower centre and its full size.

    Args:
        semantic: class of the shapes in `vocabulary.SEMANTIC_CLASSES`. Labels use it for scenery
            alone; objects, lights and signs get the class of their category.
    """

    def __init__(self, semantic: str = "other_object") -> None:
        self._semantic = SEMANTIC_CLASSES.index(semantic)
        self._geometry: list[tuple[float, ...]] = []
        self._codes: list[tuple[int, int, int, int]] = []
        self._paint: list[tuple[float, ...]] = []

    def add(
        self,
        pattern: Pattern,
        foot: tuple[float, float, float],  # x, y of the centre and z of the lowest point, m
        size: tuple[float, float, float],  # length, width, height, m
        colour: tuple[float, float, float],
        *,
        colour2: tuple[float, float, float] = (0.1, 0.1, 0.1),
        kind: Kind = Kind.BOX,
        yaw_rad: float = 0.0,
        slopes: tuple[float, float, float] = (0.0, 0.0, 0.0),
        hole_m: float = 0.0,
    ) -> None:
        """Add a shape.

        Args:
            pattern: paint.
            foot: see signature.
            size: see signature; the width of a WHEEL is along its axle.
            colour: red, green, blue in 0..1.
            colour2: second colour of the pattern.
            kind: shape.
            yaw_rad: rotation about z.
            slopes: metres by which the front, the back and either side of a BOX lean inwards over
                its height.
            hole_m: radius of a RING's hole.
        """
        length, width, height = size
        front, back, side = (s / height for s in slopes)
        self._geometry.append(
            (
                foot[0],
                foot[1],
                foot[2] + height / 2,
                float(np.cos(yaw_rad)),
                float(np.sin(yaw_rad)),
                length / 2,
                width / 2,
                height / 2,
                front,
                back,
                side,
                hole_m,
            )
        )
        self._codes.append((int(kind), int(pattern), -1, self._semantic))
        self._paint.append((*colour, *colour2, 0.0, float(len(self._paint) * 0.37 % 1.0)))

    def finish(self) -> Primitives:
        """Return the added primitives."""
        return Primitives(
            np.array(self._geometry, np.float64).reshape(-1, GEOMETRY_COLUMNS),
            np.array(self._codes, np.int32).reshape(-1, CODE_COLUMNS),
            np.array(self._paint, np.float32).reshape(-1, PAINT_COLUMNS),
        )


def place(
    primitives: Primitives,
    x_m: NDArray[np.float64],  # (P,)
    y_m: NDArray[np.float64],  # (P,)
    yaw_rad: NDArray[np.float64],  # (P,)
) -> Primitives:
    """Transform each primitive by a rigid motion in the plane, from object to scene frame."""
    geometry = primitives.geometry.copy()
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    local = primitives.geometry
    geometry[:, G_X] = x_m + cos * local[:, G_X] - sin * local[:, G_Y]
    geometry[:, G_Y] = y_m + sin * local[:, G_X] + cos * local[:, G_Y]
    geometry[:, G_COS] = cos * local[:, G_COS] - sin * local[:, G_SIN]
    geometry[:, G_SIN] = sin * local[:, G_COS] + cos * local[:, G_SIN]
    return Primitives(geometry, primitives.codes, primitives.paint)
