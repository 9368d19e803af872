"""The shapes everything is built of: boxes with sloped sides, ellipsoids, cylinders and rings.

Primitives are rows of three arrays, so that compiled loops read them directly. A primitive stands
in a frame with z up and is turned about z only.

Letters: P primitives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

# Columns of `Primitives.geometry`.
GEOMETRY_COLUMNS = 12
G_X, G_Y, G_Z, G_COS, G_SIN, G_HX, G_HY, G_HZ, G_FRONT, G_BACK, G_SIDE, G_HOLE = range(12)
# Columns of `Primitives.codes`.
CODE_COLUMNS = 3
C_KIND, C_PATTERN, C_INSTANCE = range(3)
# Columns of `Primitives.paint`.
PAINT_COLUMNS = 8
P_RED, P_GREEN, P_BLUE, P_RED2, P_GREEN2, P_BLUE2, P_STATE, P_SEED = range(8)


class Kind(IntEnum):
    """How a primitive is met by a ray."""

    BOX = 0
    ELLIPSOID = 1
    WHEEL = 2  # cylinder, axis y
    RING = 3  # a wheel with a hole of radius G_HOLE
    POST = 4  # cylinder, axis z


class Pattern(IntEnum):
    """How a primitive is painted; see `shading`."""

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


@dataclass(frozen=True)
class Primitives:
    """P primitives, in one frame."""

    geometry: np.ndarray  # (P, 12) float64: centre m, cos and sin yaw, half sizes m, three slopes
    codes: np.ndarray  # (P, 3) int32: kind, pattern, instance (-1 for none)
    paint: np.ndarray  # (P, 8) float32: first colour, second colour (0..1), state, seed

    def __len__(self) -> int:
        return len(self.geometry)


def concatenate(parts: list[Primitives]) -> Primitives:
    """All rows of several sets, in order; an empty list gives an empty set."""
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
    """Collects primitives one by one: `add` a shape by its lower centre and full sizes."""

    def __init__(self) -> None:
        self._geometry: list[tuple[float, ...]] = []
        self._codes: list[tuple[int, int, int]] = []
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
        """Adds a shape.

        Args:
            pattern: what is painted on it.
            foot: see signature.
            size: see signature; of a WHEEL, width is along the axle.
            colour: red, green, blue in 0..1.
            colour2: second colour of the pattern.
            kind: shape met by rays.
            yaw_rad: turn about z.
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
        self._codes.append((int(kind), int(pattern), -1))
        self._paint.append((*colour, *colour2, 0.0, float(len(self._paint) * 0.37 % 1.0)))

    def finish(self) -> Primitives:
        """The collected primitives."""
        return Primitives(
            np.array(self._geometry, np.float64).reshape(-1, GEOMETRY_COLUMNS),
            np.array(self._codes, np.int32).reshape(-1, CODE_COLUMNS),
            np.array(self._paint, np.float32).reshape(-1, PAINT_COLUMNS),
        )


def place(
    primitives: Primitives,
    x_m: np.ndarray,  # (P,)
    y_m: np.ndarray,  # (P,)
    yaw_rad: np.ndarray,  # (P,)
) -> Primitives:
    """Moves each primitive by its own rigid motion in the plane (object frame to scene frame)."""
    geometry = primitives.geometry.copy()
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    local = primitives.geometry
    geometry[:, G_X] = x_m + cos * local[:, G_X] - sin * local[:, G_Y]
    geometry[:, G_Y] = y_m + sin * local[:, G_X] + cos * local[:, G_Y]
    geometry[:, G_COS] = cos * local[:, G_COS] - sin * local[:, G_SIN]
    geometry[:, G_SIN] = sin * local[:, G_COS] + cos * local[:, G_SIN]
    return Primitives(geometry, primitives.codes, primitives.paint)
