"""What darkens and what lights up the ground: shadows, and pools of lamp light at night.

All are soft rectangles, rows of eight numbers as `ground_light.darken_ground` reads them: centre x
and y m, cos and sin of the yaw, half length and width m, strength, softness m.
"""

from __future__ import annotations

import numpy as np

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


def _thrown(rows: np.ndarray, height_m: np.ndarray, sun: np.ndarray) -> np.ndarray:
    """Rectangles moved and stretched from a thing's foot to the shadow of its top."""
    thrown = rows.copy()
    reach = height_m[:, None] * -sun[None, :2] / max(float(sun[2]), 0.35) * 0.5
    thrown[:, _X : _Y + 1] += reach
    along = thrown[:, _COS] * reach[:, 0] + thrown[:, _SIN] * reach[:, 1]
    across = thrown[:, _COS] * reach[:, 1] - thrown[:, _SIN] * reach[:, 0]
    thrown[:, _HX] += 0.8 * np.abs(along)
    thrown[:, _HY] += 0.8 * np.abs(across)
    return thrown


def object_shadows(
    pose: np.ndarray,  # (N, 3)
    size_m: np.ndarray,  # (N, 3)
    sun: np.ndarray,
    strength: float,
) -> np.ndarray:
    """Of each object the shadow under it and, if the sun shines, the one it throws."""
    contact = np.zeros((len(pose), ROW))
    contact[:, _X : _Y + 1] = pose[:, :2]
    contact[:, _COS], contact[:, _SIN] = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    contact[:, _HX : _HY + 1] = size_m[:, :2] / 2 - 0.05
    contact[:, _STRENGTH] = 0.62
    contact[:, _SOFT] = np.minimum(0.35, 0.15 + 0.1 * size_m[:, 2])
    if strength < 0.05:
        return contact
    thrown = _thrown(contact, np.minimum(size_m[:, 2], 4.0), sun)
    thrown[:, _STRENGTH], thrown[:, _SOFT] = strength, 0.3
    return np.concatenate([thrown, contact])


def scenery_shadows(scenery: Primitives, sun: np.ndarray, strength: float) -> np.ndarray:
    """Dark feet of all that stands on the ground; shadows of houses and of crowns of trees."""
    shapes, patterns = scenery.geometry, scenery.codes[:, C_PATTERN]
    feet = _footprints(shapes[shapes[:, G_Z] - shapes[:, G_HZ] < 0.05])
    feet[:, _STRENGTH], feet[:, _SOFT] = 0.5, 0.5
    if strength < 0.05:
        return feet
    houses = shapes[patterns == Pattern.HOUSE]
    walls = _thrown(_footprints(houses), np.minimum(2 * houses[:, G_HZ], 12.0), sun)
    crowns = shapes[patterns == Pattern.FOLIAGE]
    round_ones = _footprints(crowns)
    round_ones[:, _X : _Y + 1] -= crowns[:, G_Z, None] * sun[None, :2] / max(float(sun[2]), 0.35)
    round_ones[:, _SOFT] = 0.5 * np.minimum(crowns[:, G_HX], crowns[:, G_HY])
    round_ones[:, _HX : _HY + 1] *= 0.45
    walls[:, _SOFT] = 0.6
    for rows in (walls, round_ones):
        rows[:, _STRENGTH] = strength
    return np.concatenate([walls, round_ones, feet])


def _footprints(shapes: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(shapes), ROW))
    rows[:, : _HY + 1] = shapes[:, [G_X, G_Y, G_COS, G_SIN, G_HX, G_HY]]
    return rows


def lamp_pools(
    pose: np.ndarray,  # (N, 3) of vehicles with lit lamps
    length_m: np.ndarray,  # (N,)
    street_lamps_m: np.ndarray,  # (L, 2)
) -> np.ndarray:
    """Light on the ground below street lamps and ahead of vehicles, at night."""
    ahead = np.zeros((len(pose), ROW))
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    way = length_m / 2 + 4.0
    ahead[:, _X], ahead[:, _Y] = pose[:, 0] + way * cos, pose[:, 1] + way * sin
    ahead[:, _COS], ahead[:, _SIN] = cos, sin
    ahead[:, _HX], ahead[:, _HY], ahead[:, _STRENGTH], ahead[:, _SOFT] = 2.5, 0.3, -3.0, 3.0
    below = np.zeros((len(street_lamps_m), ROW))
    below[:, _X : _Y + 1], below[:, _COS] = street_lamps_m, 1.0
    below[:, _STRENGTH], below[:, _SOFT] = -4.0, 9.0
    return np.concatenate([ahead, below])
