"""Light: turns a z-buffer into colours: materials, ground, shadows, sky, haze (numba).

Shading is deferred: every pixel is shaded once, for the primitive it shows.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from bevstack.synthetic.patterns import hash01, paint
from bevstack.synthetic.raycast import _JIT, FAR, _pixel_bounds

# Entries of `Light.values`, the array the compiled code reads.
(L_SUN_X, L_SUN_Y, L_SUN_Z, L_SUN, L_AMBIENT, L_EXPOSURE, L_HAZE_M) = range(7)
L_HORIZON, L_ZENITH, L_CLOUDS = 7, 10, 13
LIGHT_SIZE = 15


@numba.njit(**_JIT)
def darken_ground(shadows, origin, scene_from_cam, intrinsics, owner, shade):
    """Multiplies soft rectangular shadows into the ground's pixels.

    Args:
        shadows: (S, 8): centre x and y m, cos and sin of yaw, half length and width m, strength
            0..1, softness m.
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
        if not _pixel_bounds(slab, origin, cam_from_scene, intrinsics, height, width, bounds):
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
                    shade[row, col] *= 1.0 - strength * fall


@numba.njit(inline="always")
def _sample(texture, x, y):
    """Bilinear look-up at continuous texel coordinates, clamped at the border."""
    rows, cols = texture.shape[0], texture.shape[1]
    x = min(max(x - 0.5, 0.0), cols - 1.001)
    y = min(max(y - 0.5, 0.0), rows - 1.001)
    c, r = int(x), int(y)
    fx, fy = x - c, y - r
    w00, w01, w10, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    a, b, e, f = texture[r, c], texture[r, c + 1], texture[r + 1, c], texture[r + 1, c + 1]
    return (
        w00 * a[0] + w01 * b[0] + w10 * e[0] + w11 * f[0],
        w00 * a[1] + w01 * b[1] + w10 * e[1] + w11 * f[1],
        w00 * a[2] + w01 * b[2] + w10 * e[2] + w11 * f[2],
    )


@numba.njit(inline="always")
def _ground(pyramid, corner, texels_per_m, x, y, footprint_m):
    size = footprint_m * texels_per_m
    level = 0
    while size > 1.5 and level < len(pyramid) - 1:
        size *= 0.5
        level += 1
    scale = texels_per_m / (1 << level)
    red, green, blue = _sample(pyramid[level], (x - corner[0]) * scale, (y - corner[1]) * scale)
    return red / 255.0, green / 255.0, blue / 255.0


@numba.njit(inline="always")
def _sky(light, clouds, dx, dy, dz):
    up = dz / math.sqrt(dx * dx + dy * dy + dz * dz)
    w = math.sqrt(max(up, 0.0))
    size = clouds.shape[0]
    reach = 90.0 / (max(up, 0.0) + 0.12)
    flat = math.hypot(dx, dy) + 1e-9
    i, j = int(dx / flat * reach + 4096.0) % size, int(dy / flat * reach + 4096.0) % size
    cloud = max(0.0, clouds[i, j] - light[14]) * light[13] * w
    cloud = min(cloud, 0.85)
    return (
        (light[7] + (light[10] - light[7]) * w) * (1 - cloud) + 0.95 * cloud,
        (light[8] + (light[11] - light[8]) * w) * (1 - cloud) + 0.95 * cloud,
        (light[9] + (light[12] - light[9]) * w) * (1 - cloud) + 0.96 * cloud,
    )


@numba.njit(inline="always")
def _box_face(g, lx, ly, lz):
    """Face on which a point of a sloped box lies: the plane with the least residual."""
    rise = lz + g[7]
    best, face = abs(g[5] - lx - g[8] * rise), 0
    rest = abs(g[5] + lx - g[9] * rise)
    if rest < best:
        best, face = rest, 1
    rest = abs(g[6] - ly - g[10] * rise)
    if rest < best:
        best, face = rest, 2
    rest = abs(g[6] + ly - g[10] * rise)
    if rest < best:
        best, face = rest, 3
    rest = abs(g[7] - lz)
    if rest < best:
        best, face = rest, 4
    if abs(g[7] + lz) < best:
        face = 5
    return face


@numba.njit(inline="always")
def _surface(kind, g, lx, ly, lz):
    """Face, u, v and the outward normal (not of unit length) in the primitive's frame."""
    if kind == 0:
        face = _box_face(g, lx, ly, lz)
        v = 0.5 + 0.5 * lz / g[7]
        if face < 2:
            u = 0.5 + 0.5 * ly / g[6]
            nx = 1.0 if face == 0 else -1.0
            return face, u, v, nx, 0.0, g[8] if face == 0 else g[9]
        u = 0.5 + 0.5 * lx / g[5]
        if face < 4:
            return face, u, v, 0.0, 1.0 if face == 2 else -1.0, g[10]
        return face, u, 0.5 + 0.5 * ly / g[6], 0.0, 0.0, 1.0 if face == 4 else -1.0
    if kind == 1:
        nx, ny, nz = lx / (g[5] * g[5]), ly / (g[6] * g[6]), lz / (g[7] * g[7])
        face = 0 if lx > 0.25 * g[5] and lz < 0.5 * g[7] else 1
        return face, 0.5 + 0.5 * ly / g[6], 0.5 + 0.5 * lz / g[7], nx, ny, nz
    if kind == 4:
        if abs(lz) > 0.999 * g[7]:
            return 4, 0.5, 1.0, 0.0, 0.0, 1.0
        face = 0 if lx > 0.0 else 1
        return face, 0.5 + 0.5 * ly / g[6], 0.5 + 0.5 * lz / g[7], lx, ly, 0.0
    radius = math.hypot(lx / g[5], lz / g[7])
    if radius > 0.999:
        return 4, 1.0, 0.5, lx, 0.0, lz
    return 2 if ly > 0.0 else 3, radius, 0.5, 0.0, 1.0 if ly > 0.0 else -1.0, 0.0


@numba.njit(inline="always")
def _lit(g, code, row, light, hx, hy, hz):
    """Colour of a point of a primitive before haze."""
    kind, pattern = code[0], code[1]
    x, y, lz = hx - g[0], hy - g[1], hz - g[2]
    lx, ly = g[3] * x + g[4] * y, g[3] * y - g[4] * x
    face, u, v, nx, ny, nz = _surface(kind, g, lx, ly, lz)
    along = (u - 0.5) * 2.0 * (g[6] if face < 2 else g[5])
    up = v * 2.0 * (g[7] if face < 4 else g[6])
    red, green, blue, shine = paint(
        pattern, face, u, v, along, up, row[0:3], row[3:6], row[6], row[7]
    )
    if pattern == 11:  # foliage: clumps
        clump = 0.65 + 0.5 * hash01(
            math.floor(lx * 3.0), math.floor(ly * 3.0), math.floor(lz * 3.0) + 64
        )
        red, green, blue = red * clump, green * clump, blue * clump
    sun_x = g[3] * light[0] + g[4] * light[1]
    sun_y = g[3] * light[1] - g[4] * light[0]
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    facing = max(0.0, (nx * sun_x + ny * sun_y + nz * light[2]) / length)
    gain = light[4] * (0.82 + 0.18 * nz / length) + light[3] * facing
    gain *= 0.75 + 0.25 * min(1.0, hz / 0.8)  # the ground takes light from what is near it
    gain += shine * max(0.0, 1.0 - gain)
    return red * gain, green * gain, blue * gain


@numba.njit(**_JIT)
def shade_image(
    geometry,
    codes,
    paints,
    depth,
    owner,
    shade,
    origin,
    scene_from_cam,
    intrinsics,
    pyramid,
    corner,
    texels_per_m,
    light,
    clouds,
    image,
):
    """Writes the linear colours of one camera into `image` (H, W, 3) float32."""
    height, width = owner.shape
    for row in range(height):
        cy = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
        for col in range(width):
            cx = (col + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            dx = scene_from_cam[0, 0] * cx + scene_from_cam[0, 1] * cy + scene_from_cam[0, 2]
            dy = scene_from_cam[1, 0] * cx + scene_from_cam[1, 1] * cy + scene_from_cam[1, 2]
            dz = scene_from_cam[2, 0] * cx + scene_from_cam[2, 1] * cy + scene_from_cam[2, 2]
            p, t = owner[row, col], depth[row, col]
            if p >= 0:
                red, green, blue = _lit(
                    geometry[p],
                    codes[p],
                    paints[p],
                    light,
                    origin[0] + t * dx,
                    origin[1] + t * dy,
                    origin[2] + t * dz,
                )
            elif dz < -0.004:
                t = -origin[2] / dz
                footprint = t * 1.3 / intrinsics[0, 0] * math.sqrt(t / origin[2])
                red, green, blue = _ground(
                    pyramid,
                    corner,
                    texels_per_m,
                    origin[0] + t * dx,
                    origin[1] + t * dy,
                    footprint,
                )
                gain = (light[4] + light[3] * light[2]) * shade[row, col]
                red, green, blue = red * gain, green * gain, blue * gain
            else:
                t = FAR
                red, green, blue = _sky(light, clouds, dx, dy, max(dz, 0.0))
            if t < FAR:
                keep = math.exp(-t / light[6])
                red = red * keep + light[7] * (1.0 - keep)
                green = green * keep + light[8] * (1.0 - keep)
                blue = blue * keep + light[9] * (1.0 - keep)
            image[row, col, 0] = red
            image[row, col, 1] = green
            image[row, col, 2] = blue


@numba.njit(**_JIT)
def develop(image, factor, gains, noise, noise_row, noise_col, out):
    """Averages supersamples, adds exposure and sensor noise, and writes BGR bytes.

    Args:
        image: (H * factor, W * factor, 3) float32 linear RGB.
        factor: supersamples per axis.
        gains: (3,) exposure times white balance.
        noise: (A, B) float32, in 0..255 units; read from (noise_row, noise_col) on, repeating.
        noise_row: where this picture starts in the noise field.
        noise_col: see noise_row.
        out: (H, W, 3) uint8, BGR.
    """
    scale = 255.0 / (factor * factor)
    for row in range(out.shape[0]):
        for col in range(out.shape[1]):
            grain = noise[(row + noise_row) % noise.shape[0], (col + noise_col) % noise.shape[1]]
            for c in range(3):
                total = 0.0
                for a in range(factor):
                    for b in range(factor):
                        value = image[row * factor + a, col * factor + b, c] * gains[c]
                        total += min(value, 1.0)
                level = total * scale + grain
                out[row, col, 2 - c] = np.uint8(min(max(level + 0.5, 0.0), 255.0))
