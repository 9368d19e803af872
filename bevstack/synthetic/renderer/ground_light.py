"""Light on the ground: shadows, lamp light, and reflections on a wet road (numba)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.compiled import compiled_nogil, inlined
from bevstack.synthetic.renderer.patterns import hash01
from bevstack.synthetic.renderer.raycast import FAR, pixel_bounds


@compiled_nogil
def darken_ground(
    shadows: NDArray[np.float64],  # (S, 8)
    origin: NDArray[np.float64],  # (3,)
    scene_from_cam: NDArray[np.float64],  # (3, 3)
    intrinsics: NDArray[np.float64],  # (3, 3)
    owner: NDArray[np.int32],  # (H, W)
    shade: NDArray[np.float32],  # (H, W) in and out
) -> None:
    """Draw soft rectangles of shadow or lamp light into the brightness of the ground's pixels.

    Args:
        shadows: centre x and y m, cos and sin of yaw, half length and width m, strength 0..1,
            softness m. A negative strength is lamp light and adds brightness.
        origin: camera centre, m.
        scene_from_cam: rotation.
        intrinsics: px.
        owner: from `rasterise`; only pixels with -1 change.
        shade: brightness relative to the ground in the open.
    """
    height, width = owner.shape
    cam_from_scene = np.ascontiguousarray(scene_from_cam.T)
    bounds = np.empty(4, np.int64)
    slab = np.zeros(12)
    for s in range(shadows.shape[0]):
        x, y, cos, sin, hx, hy, strength, soft = shadows[s]
        slab[0], slab[1], slab[3], slab[4] = x, y, cos, sin
        slab[5], slab[6], slab[7] = hx + soft, hy + soft, 0.001
        nearest = pixel_bounds(slab, origin, cam_from_scene, intrinsics, height, width, bounds)
        if nearest >= FAR:
            continue
        for row in range(bounds[0], bounds[1]):
            cy = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
            for col in range(bounds[2], bounds[3]):
                if owner[row, col] != -1:
                    continue
                cx = (col + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
                dz = scene_from_cam[2, 0] * cx + scene_from_cam[2, 1] * cy + scene_from_cam[2, 2]
                if dz >= -1e-6:
                    continue
                t = -origin[2] / dz
                px = (
                    origin[0]
                    - x
                    + t
                    * (scene_from_cam[0, 0] * cx + scene_from_cam[0, 1] * cy + scene_from_cam[0, 2])
                )
                py = (
                    origin[1]
                    - y
                    + t
                    * (scene_from_cam[1, 0] * cx + scene_from_cam[1, 1] * cy + scene_from_cam[1, 2])
                )
                ex = max(0.0, abs(cos * px + sin * py) - hx)
                ey = max(0.0, abs(cos * py - sin * px) - hy)
                fall = 1.0 - math.sqrt(ex * ex + ey * ey) / soft
                if fall > 0.0:
                    if strength > 0.0:
                        shade[row, col] *= 1.0 - strength * fall
                    else:
                        shade[row, col] -= strength * fall * fall


@inlined
def mirror_share(wet: float, dx: float, dy: float, dz: float) -> float:
    """Return the fraction of light that wet ground reflects along a ray that hits it from above."""
    steep = -dz / math.sqrt(dx * dx + dy * dy + dz * dz)
    graze = (1.0 - steep) * (1.0 - steep)
    return wet * (0.04 + 0.5 * graze * graze * (1.0 - steep))


@compiled_nogil
def mirror_in_ground(
    owner: NDArray[np.int32],  # (H, W)
    depth: NDArray[np.float64],  # (H, W)
    scene_from_cam: NDArray[np.float64],  # (3, 3)
    intrinsics: NDArray[np.float64],  # (3, 3)
    wet: float,
    image: NDArray[np.float32],  # (H, W, 3) in and out
) -> None:
    """Draw the reflections of objects on wet ground.

    Each column is mirrored about the lowest object pixel above the ground pixel.

    Args:
        owner: from `rasterise`.
        depth: from `rasterise`.
        scene_from_cam: rotation.
        intrinsics: px.
        wet: 0..1.
        image: linear colours.
    """
    height, width = owner.shape
    foot = np.full(width, -1, np.int64)
    for row in range(height):
        cy = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
        for col in range(width):
            if owner[row, col] >= 0:
                foot[col] = row
                continue
            if foot[col] < 0:
                continue
            cx = (col + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            dz = scene_from_cam[2, 0] * cx + scene_from_cam[2, 1] * cy + scene_from_cam[2, 2]
            ripple = 1.0 + 0.12 * (hash01(row, col // 2, 7) - 0.5)
            source = foot[col] - int((row - foot[col]) * ripple)
            if dz > -0.004 or source < 0 or owner[source, col] < 0:
                continue
            near = depth[foot[col], col]
            if abs(depth[source, col] - near) > 0.3 * near + 1.0:
                continue
            share = 0.85 * mirror_share(wet, cx, cy, dz)
            for c in range(3):
                image[row, col, c] += share * (image[source, col, c] - image[row, col, c])
