"""Light: turns a z-buffer into colours: materials, ground, shadows, sky, haze (numba).

Shading is deferred: every pixel is shaded once, for the primitive it shows.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from bevstack.synthetic.renderer.ground_light import mirror_share
from bevstack.synthetic.renderer.patterns import hash01, paint
from bevstack.synthetic.renderer.raycast import _JIT

# Entries of `Light.values`, the array the compiled code reads.
(L_SUN_X, L_SUN_Y, L_SUN_Z, L_SUN, L_AMBIENT, L_NIGHT, L_HAZE_M) = range(7)
L_HORIZON, L_ZENITH, L_CLOUDS, L_WET, L_BEAM = 7, 10, 13, 15, 16
LIGHT_SIZE = 17
HAZE_STEP_M, HAZE_ENTRIES = 0.25, 4096


@numba.njit(inline="always")
def _ground(texels, levels, level, corner, texels_per_m, x, y):
    """Bilinear look-up, clamped at the border; albedo in 0..1."""
    start, rows, cols = levels[level, 0], levels[level, 1], levels[level, 2]
    scale = texels_per_m / (1 << level)
    x = min(max((x - corner[0]) * scale - 0.5, 0.0), cols - 1.001)
    y = min(max((y - corner[1]) * scale - 0.5, 0.0), rows - 1.001)
    c, r = int(x), int(y)
    fx, fy = x - c, (y - r) / 255.0
    w10, w11 = (1.0 - fx) * fy, fx * fy
    w00, w01 = (1.0 - fx) / 255.0 - w10, fx / 255.0 - w11
    a = start + 3 * (r * cols + c)
    b = a + 3 * cols
    return (
        w00 * texels[a] + w01 * texels[a + 3] + w10 * texels[b] + w11 * texels[b + 3],
        w00 * texels[a + 1] + w01 * texels[a + 4] + w10 * texels[b + 1] + w11 * texels[b + 4],
        w00 * texels[a + 2] + w01 * texels[a + 5] + w10 * texels[b + 2] + w11 * texels[b + 5],
    )


@numba.njit(inline="always")
def _sky(light, clouds, dx, dy, dz):
    flat = math.sqrt(dx * dx + dy * dy) + 1e-9
    rise = dz / flat
    w = math.sqrt(rise / (1.0 + rise))
    reach = 90.0 / ((rise + 0.12) * flat)
    mask = clouds.shape[0] - 1  # a power of two
    i, j = int(dx * reach + 4096.0) & mask, int(dy * reach + 4096.0) & mask
    cloud = min(max(0.0, clouds[i, j] - light[14]) * light[13] * w, 0.85)
    white = 1.17 * cloud
    red = (light[7] + (light[10] - light[7]) * w) * (1 - cloud) + white * light[7]
    green = (light[8] + (light[11] - light[8]) * w) * (1 - cloud) + white * light[8]
    blue = (light[9] + (light[12] - light[9]) * w) * (1 - cloud) + white * light[9]
    if light[3] > 0.3:
        towards = dx * light[0] + dy * light[1] + dz * light[2]
        towards /= math.sqrt(dx * dx + dy * dy + dz * dz)
        if towards > 0.9:
            glow = (towards - 0.9) * 10.0
            glow = light[3] * glow * glow * glow * (1.2 if towards < 0.9992 else 9.0)
            red, green, blue = red + glow, green + 0.95 * glow, blue + 0.8 * glow
    return red, green, blue


@numba.njit(inline="always")
def _beam(light, beam, px, py, pz):
    """Light of the ego's head lamps on a point: a cone that fades ahead and to its sides.

    beam: (4,) x, y m, cos and sin of the yaw of the ego.
    """
    x, y = px - beam[0], py - beam[1]
    ahead = beam[2] * x + beam[3] * y - 3.0
    if ahead <= 0.0:
        return 0.0
    aside = (beam[2] * y - beam[3] * x) / (ahead + 3.0) * 1.8
    reach = ahead / 16.0
    high = max(0.0, pz - 0.9)
    aside *= aside
    return (
        light[16]
        * min(1.0, 0.25 * ahead)
        / ((1.0 + aside * aside) * (1.0 + reach * reach) * (1.0 + 2.0 * high))
    )


@numba.njit(inline="always")
def _box_face(hx, hy, hz, front, back, side, lx, ly, lz):
    """Face on which a point of a sloped box lies: the plane with the least residual."""
    rise = lz + hz
    best, face = abs(hx - lx - front * rise), 0
    rest = abs(hx + lx - back * rise)
    if rest < best:
        best, face = rest, 1
    rest = hy - abs(ly) - side * rise
    if abs(rest) < best:
        best, face = abs(rest), 2 if ly > 0.0 else 3
    if hz - lz < best:
        best, face = hz - lz, 4
    if hz + lz < best:
        face = 5
    return face


@numba.njit(inline="always")
def _surface(kind, hx, hy, hz, front, back, side, lx, ly, lz):
    """Face, u, v and the outward normal (not of unit length) in the primitive's frame."""
    if kind == 0:
        face = _box_face(hx, hy, hz, front, back, side, lx, ly, lz)
        v = 0.5 + 0.5 * lz / hz
        if face < 2:
            u = 0.5 + 0.5 * ly / hy
            return face, u, v, 1.0 - 2.0 * face, 0.0, front if face == 0 else back
        u = 0.5 + 0.5 * lx / hx
        if face < 4:
            return face, u, v, 0.0, 5.0 - 2.0 * face, side
        return face, u, 0.5 + 0.5 * ly / hy, 0.0, 0.0, 9.0 - 2.0 * face
    if kind == 1:
        nx, ny, nz = lx / (hx * hx), ly / (hy * hy), lz / (hz * hz)
        face = 0 if lx > 0.25 * hx and lz < 0.5 * hz else 1
        return face, 0.5 + 0.5 * ly / hy, 0.5 + 0.5 * lz / hz, nx, ny, nz
    if kind == 4:
        if abs(lz) > 0.999 * hz:
            return 4, 0.5, 1.0, 0.0, 0.0, 1.0
        face = 0 if lx > 0.0 else 1
        return face, 0.5 + 0.5 * ly / hy, 0.5 + 0.5 * lz / hz, lx, ly, 0.0
    radius = math.sqrt((lx / hx) ** 2 + (lz / hz) ** 2)
    if radius > 0.999:
        return 4, 1.0, 0.5, lx, 0.0, lz
    return 2 if ly > 0.0 else 3, radius, 0.5, 0.0, 1.0 if ly > 0.0 else -1.0, 0.0


@numba.njit(inline="always")
def _lit(g, codes, paints, p, light, beam, px, py, pz):
    """Colour before haze of the point (px, py, pz) of primitive p."""
    pattern = codes[p, 1]
    cos, sin, hx, hy, hz = g[p, 3], g[p, 4], g[p, 5], g[p, 6], g[p, 7]
    x, y, lz = px - g[p, 0], py - g[p, 1], pz - g[p, 2]
    lx, ly = cos * x + sin * y, cos * y - sin * x
    face, u, v, nx, ny, nz = _surface(
        codes[p, 0], hx, hy, hz, g[p, 8], g[p, 9], g[p, 10], lx, ly, lz
    )
    along = (u - 0.5) * 2.0 * (hy if face < 2 else hx)
    up = v * 2.0 * (hz if face < 4 else hy)
    first = (paints[p, 0], paints[p, 1], paints[p, 2])
    second = (paints[p, 3], paints[p, 4], paints[p, 5])
    red, green, blue, shine = paint(
        pattern, face, u, v, along, up, first, second, paints[p, 6], paints[p, 7]
    )
    if pattern == 11:  # foliage: clumps
        clump = 0.65 + 0.5 * hash01(
            math.floor(lx * 3.0), math.floor(ly * 3.0), math.floor(lz * 3.0) + 64
        )
        red, green, blue = red * clump, green * clump, blue * clump
    sun_x, sun_y = cos * light[0] + sin * light[1], cos * light[1] - sin * light[0]
    inverse = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12)
    facing = max(0.0, (nx * sun_x + ny * sun_y + nz * light[2]) * inverse)
    gain = light[4] * (0.82 + 0.18 * nz * inverse) + light[3] * facing
    gain *= 0.75 + 0.25 * min(1.0, pz / 0.8)  # the ground takes light from what is near it
    if light[16] > 0.0:
        gain += 0.8 * _beam(light, beam, px, py, pz)
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
    texels,
    levels,
    corner,
    texels_per_m,
    light,
    clouds,
    beam,
    image,
):
    """Writes the linear colours of one camera into `image` (H, W, 3) float32."""
    height, width = owner.shape
    keeps = np.exp(-np.arange(HAZE_ENTRIES) * (HAZE_STEP_M / light[6]))
    # distance on the ground up to which each level of the pyramid is fine enough
    reaches = np.empty(levels.shape[0])
    for level in range(levels.shape[0]):
        texel = 1.5 * (1 << level) / texels_per_m
        reaches[level] = (texel * intrinsics[0, 0] / 1.3 * math.sqrt(origin[2])) ** (2.0 / 3.0)
    inverse_x, inverse_y = 1.0 / intrinsics[0, 0], 1.0 / intrinsics[1, 1]
    sunlit = light[4] + light[3] * light[2]
    for row in range(height):
        cy = (row + 0.5 - intrinsics[1, 2]) * inverse_y
        rx = scene_from_cam[0, 1] * cy + scene_from_cam[0, 2]
        ry = scene_from_cam[1, 1] * cy + scene_from_cam[1, 2]
        rz = scene_from_cam[2, 1] * cy + scene_from_cam[2, 2]
        for col in range(width):
            cx = (col + 0.5 - intrinsics[0, 2]) * inverse_x
            dx = scene_from_cam[0, 0] * cx + rx
            dy = scene_from_cam[1, 0] * cx + ry
            dz = scene_from_cam[2, 0] * cx + rz
            p, t = owner[row, col], depth[row, col]
            if p >= 0:
                x, y, z = origin[0] + t * dx, origin[1] + t * dy, origin[2] + t * dz
                red, green, blue = _lit(geometry, codes, paints, p, light, beam, x, y, z)
            elif dz < -0.004:
                t = -origin[2] / dz
                level = 0
                while level < levels.shape[0] - 1 and t > reaches[level]:
                    level += 1
                x, y = origin[0] + t * dx, origin[1] + t * dy
                red, green, blue = _ground(texels, levels, level, corner, texels_per_m, x, y)
                gain = sunlit * shade[row, col]
                if light[16] > 0.0:
                    gain += _beam(light, beam, x, y, 0.0)
                red, green, blue = red * gain, green * gain, blue * gain
                if light[15] > 0.0:  # a film of water: darker, and a mirror at grazing angles
                    mirror = mirror_share(light[15], dx, dy, dz)
                    keep = (1.0 - 0.35 * light[15]) * (1.0 - mirror)
                    above = _sky(light, clouds, dx, dy, -dz)
                    red, green, blue = (
                        red * keep + mirror * above[0],
                        green * keep + mirror * above[1],
                        blue * keep + mirror * above[2],
                    )
            else:
                t = 0.0  # the sky has its haze
                red, green, blue = _sky(light, clouds, dx, dy, max(dz, 0.0))
            keep = keeps[min(int(t * (1.0 / HAZE_STEP_M)), HAZE_ENTRIES - 1)]
            image[row, col, 0] = red * keep + light[7] * (1.0 - keep)
            image[row, col, 1] = green * keep + light[8] * (1.0 - keep)
            image[row, col, 2] = blue * keep + light[9] * (1.0 - keep)


@numba.njit(**_JIT)
def develop(image, factor, gains, noise, noise_row, noise_col, out):
    """Averages supersamples, adds exposure and sensor noise, and writes BGR bytes.

    Args:
        image: (H * factor, W * factor, 3) float32 linear RGB.
        factor: supersamples per axis.
        gains: (3,) exposure times white balance.
        noise: (A, B) float32, sizes powers of two, in 0..255 units; read from
            (noise_row, noise_col) on, repeating.
        noise_row: where this picture starts in the noise field.
        noise_col: see noise_row.
        out: (H, W, 3) uint8, BGR.
    """
    scale = 255.0 / (factor * factor)
    row_mask, col_mask = noise.shape[0] - 1, noise.shape[1] - 1
    for row in range(out.shape[0]):
        grains = noise[(row + noise_row) & row_mask]
        for col in range(out.shape[1]):
            grain = grains[(col + noise_col) & col_mask] + 0.5
            for c in range(3):
                total = 0.0
                for a in range(row * factor, (row + 1) * factor):
                    for b in range(col * factor, (col + 1) * factor):
                        total += min(image[a, b, c] * gains[c], 1.0)
                out[row, col, 2 - c] = np.uint8(min(max(total * scale + grain, 0.0), 255.0))
