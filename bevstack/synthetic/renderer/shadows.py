"""Shadows on the ground, and lamp light at night.

All are soft rectangles, rows of eight numbers that `ground_light.darken_ground` reads: centre x and
y m, cos and sin of the yaw, half length and width m, strength, softness m.

Letters: N objects, S rectangles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.primitives import (
    C_PATTERN,
    G_COS,
    G_HX,
    G_HY,
    G_HZ,
    G_SIN,
    G_X,
    G_Y,
    G_Z,
    Pattern,
    Primitives,
)

ROW = 8
_X, _Y, _COS, _SIN, _HX, _HY, _STRENGTH, _SOFT = range(ROW)


def _cast(
    footprints: NDArray[np.float64],  # (N, 8)
    height_m: NDArray[np.float64],  # (N,)
    sun: NDArray[np.float64],  # (3,)
) -> NDArray[np.float64]:
    """Stretch footprints towards the shadows of the objects' tops."""
    cast = footprints.copy()
    reach = height_m[:, None] * -sun[None, :2] / max(float(sun[2]), 0.35) * 0.5
    cast[:, _X : _Y + 1] += reach
    along = cast[:, _COS] * reach[:, 0] + cast[:, _SIN] * reach[:, 1]
    across = cast[:, _COS] * reach[:, 1] - cast[:, _SIN] * reach[:, 0]
    cast[:, _HX] += 0.8 * np.abs(along)
    cast[:, _HY] += 0.8 * np.abs(across)
    return cast


def object_shadows(
    pose: NDArray[np.float64],  # (N, 3) x, y m, yaw rad
    size_m: NDArray[np.float64],  # (N, 3)
    sun: NDArray[np.float64],  # (3,) unit vector towards the sun
    strength: float,
) -> NDArray[np.float64]:  # (S, 8)
    """Return the contact shadow of each object and, if the sun shines, its cast shadow.

    Args:
        pose: in the scene frame.
        size_m: length, width, height.
        sun: in the scene frame.
        strength: of the cast shadows, 0..1; below 0.05 there are none.
    """
    contact = np.zeros((len(pose), ROW))
    contact[:, _X : _Y + 1] = pose[:, :2]
    contact[:, _COS], contact[:, _SIN] = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    contact[:, _HX : _HY + 1] = size_m[:, :2] / 2 - 0.05
    contact[:, _STRENGTH] = 0.62
    contact[:, _SOFT] = np.minimum(0.35, 0.15 + 0.1 * size_m[:, 2])
    if strength < 0.05:
        return contact
    cast = _cast(contact, np.minimum(size_m[:, 2], 4.0), sun)
    cast[:, _STRENGTH], cast[:, _SOFT] = strength, 0.3
    return np.concatenate([cast, contact])


def scenery_shadows(
    scenery: Primitives,
    sun: NDArray[np.float64],  # (3,) unit vector towards the sun
    strength: float,
) -> NDArray[np.float64]:  # (S, 8)
    """Return contact shadows of all scenery, and cast shadows of houses and crowns of trees.

    Args:
        scenery: in the scene frame.
        sun: in the scene frame.
        strength: of the cast shadows, 0..1; below 0.05 there are none.
    """
    shapes, patterns = scenery.geometry, scenery.codes[:, C_PATTERN]
    contact = _footprints(shapes[shapes[:, G_Z] - shapes[:, G_HZ] < 0.05])
    contact[:, _STRENGTH], contact[:, _SOFT] = 0.5, 0.5
    if strength < 0.05:
        return contact
    houses = shapes[patterns == Pattern.HOUSE]
    wall_shadows = _cast(_footprints(houses), np.minimum(2 * houses[:, G_HZ], 12.0), sun)
    crowns = shapes[patterns == Pattern.FOLIAGE]
    crown_shadows = _footprints(crowns)
    crown_shadows[:, _X : _Y + 1] -= crowns[:, G_Z, None] * sun[None, :2] / max(float(sun[2]), 0.35)
    crown_shadows[:, _SOFT] = 0.5 * np.minimum(crowns[:, G_HX], crowns[:, G_HY])
    crown_shadows[:, _HX : _HY + 1] *= 0.45
    wall_shadows[:, _SOFT] = 0.6
    for rows in (wall_shadows, crown_shadows):
        rows[:, _STRENGTH] = strength
    return np.concatenate([wall_shadows, crown_shadows, contact])


def _footprints(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one rectangle (N, 8) below each row (N, 12) of geometry."""
    rows = np.zeros((len(shapes), ROW))
    rows[:, : _HY + 1] = shapes[:, [G_X, G_Y, G_COS, G_SIN, G_HX, G_HY]]
    return rows


def lamp_pools(
    pose: NDArray[np.float64],  # (N, 3) of vehicles with lit lamps
    length_m: NDArray[np.float64],  # (N,)
    street_lamps_m: NDArray[np.float64],  # (L, 2)
) -> NDArray[np.float64]:  # (S, 8)
    """Return the light on the ground ahead of vehicles and below street lamps at night."""
    ahead = np.zeros((len(pose), ROW))
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    forward_m = length_m / 2 + 4.0
    ahead[:, _X], ahead[:, _Y] = pose[:, 0] + forward_m * cos, pose[:, 1] + forward_m * sin
    ahead[:, _COS], ahead[:, _SIN] = cos, sin
    ahead[:, _HX], ahead[:, _HY], ahead[:, _STRENGTH], ahead[:, _SOFT] = 2.5, 0.3, -3.0, 3.0
    below = np.zeros((len(street_lamps_m), ROW))
    below[:, _X : _Y + 1], below[:, _COS] = street_lamps_m, 1.0
    below[:, _STRENGTH], below[:, _SOFT] = -4.0, 9.0
    return np.concatenate([ahead, below])
