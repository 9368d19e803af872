"""Pixels that show the lamps of the preset `lights` (numba)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.compiled import compiled_nogil
from bevstack.synthetic.renderer.lamp_patterns import paint_head

LAMPS = 3  # red, yellow, green
_LIGHT_HEAD = 20  # of `primitives.Pattern`
_ON_FACE_M = 1e-5  # from a housing's face, within which a point lies on it


@compiled_nogil
def count_lamp_pixels(
    geometry: NDArray[np.float64],  # (P, 12)
    codes: NDArray[np.int32],  # (P, 4)
    paints: NDArray[np.float32],  # (P, 8)
    depth: NDArray[np.float64],  # (H, W)
    owner: NDArray[np.int32],  # (H, W)
    origin: NDArray[np.float64],  # (3,)
    scene_from_cam: NDArray[np.float64],  # (3, 3)
    intrinsics: NDArray[np.float64],  # (3, 3)
    counts: NDArray[np.int64],  # (instances, LAMPS) in and out
) -> None:
    """Count the pixels that show each lamp, lit or not, of every light.

    A lamp is the part of the face that emits light when it is on: a disc, an arrow or a figure.

    Args:
        geometry: of `Primitives`.
        codes: of `Primitives`.
        paints: of `Primitives`.
        depth: from `rasterise`.
        owner: from `rasterise`.
        origin: camera centre in the scene, m.
        scene_from_cam: rotation.
        intrinsics: px.
        counts: receives the pixels of the red, the yellow and the green lamp of each instance.
    """
    height, width = owner.shape
    for row in range(height):
        cy = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
        for col in range(width):
            p = owner[row, col]
            if p < 0 or codes[p, 1] != _LIGHT_HEAD:
                continue
            cx = (col + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            g, t = geometry[p], depth[row, col]
            x = origin[0] - g[0]
            y = origin[1] - g[1]
            z = origin[2] - g[2]
            x += t * (scene_from_cam[0, 0] * cx + scene_from_cam[0, 1] * cy + scene_from_cam[0, 2])
            y += t * (scene_from_cam[1, 0] * cx + scene_from_cam[1, 1] * cy + scene_from_cam[1, 2])
            z += t * (scene_from_cam[2, 0] * cx + scene_from_cam[2, 1] * cy + scene_from_cam[2, 2])
            along, across = g[3] * x + g[4] * y, g[3] * y - g[4] * x
            if math.fabs(g[5] - along) > _ON_FACE_M:
                continue
            first = (paints[p, 0], paints[p, 1], paints[p, 2])
            second = (paints[p, 3], paints[p, 4], paints[p, 5])
            u, v = 0.5 + 0.5 * across / g[6], 0.5 + 0.5 * z / g[7]
            for lamp in range(LAMPS):
                state = float(1 << lamp)
                if paint_head(0, u, v, first, second, state)[3] > 0.0:
                    counts[codes[p, 2], lamp] += 1
