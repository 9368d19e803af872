"""Light on the ground: shadows, pools of lamp light, and mirror images where it is wet (numba)."""

from __future__ import annotations

import math

import numba
import numpy as np

from bevstack.synthetic.renderer.patterns import hash01
from bevstack.synthetic.renderer.raycast import _JIT, FAR, _pixel_bounds


@numba.njit(**_JIT)
def darken_ground(shadows, origin, scene_from_cam, intrinsics, owner, shade):
    """Lays soft rectangles of shadow, or of lamp light, on the ground's pixels.

    Args:
        shadows: (S, 8): centre x and y m, cos and sin of yaw, half length and width m, strength
            0..1, softness m. A negative strength is a pool of light: it adds.
        origin: (3,) camera centre, m.
        scene_from_cam: (3, 3).
        intrinsics: (3, 3) px.
        owner: (H, W) int32; only pixels with -1 change.
        shade: (H, W) float32 in and out.
    """
    height, width = owner.shape
    cam_from_scene = np.ascontiguousarray(scene_from_cam.T)
    bounds = np.empty(4, np.int64)
    slab = np.zeros(12)
    for s in range(shadows.shape[0]):
        x, y, cos, sin, hx, hy, strength, soft = shadows[s]
        slab[0], slab[1], slab[3], slab[4] = x, y, cos, sin
        slab[5], slab[6], slab[7] = hx + soft, hy + soft, 0.001
        nearest = _pixel_bounds(slab, origin, cam_from_scene, intrinsics, height, width, bounds)
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


@numba.njit(inline="always")
def mirror_share(wet, dx, dy, dz):
    """Share of the light that a wet ground mirrors towards a ray that comes down on it."""
    steep = -dz / math.sqrt(dx * dx + dy * dy + dz * dz)
    graze = (1.0 - steep) * (1.0 - steep)
    return wet * (0.04 + 0.5 * graze * graze * (1.0 - steep))


@numba.njit(**_JIT)
def mirror_in_ground(owner, depth, scene_from_cam, intrinsics, wet, image):
    """Mirrors what stands on a wet ground in it, by rows: about the foot that is right above.

    Args:
        owner: (H, W) int32, of `rasterise`.
        depth: (H, W), of `rasterise`.
        scene_from_cam: (3, 3).
        intrinsics: (3, 3) px.
        wet: 0..1.
        image: (H, W, 3) float32, in and out.
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
