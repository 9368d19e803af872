"""Shading of a z-buffer: materials, ground, shadows, sky and haze (numba).

Shading is deferred: every pixel is shaded once, for the primitive that it shows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.compiled import compiled_nogil, inlined
from bevstack.synthetic.renderer.ground_light import mirror_share
from bevstack.synthetic.renderer.patterns import hash01, paint

_Colour = tuple[float, float, float]

# Entries of `Light.values`, the array that the compiled code reads.
(L_SUN_X, L_SUN_Y, L_SUN_Z, L_SUN, L_AMBIENT, L_NIGHT, L_HAZE_M) = range(7)
L_HORIZON, L_ZENITH, L_CLOUDS, L_WET, L_BEAM = 7, 10, 13, 15, 16
LIGHT_SIZE = 17
HAZE_STEP_M, HAZE_ENTRIES = 0.25, 4096


@inlined
def _ground(
    texels: NDArray[np.uint8],  # (T,)
    levels: NDArray[np.int64],  # (L, 3)
    level: int,
    corner: NDArray[np.float64],  # (2,)
    texels_per_m: float,
    x: float,
    y: float,
) -> _Colour:
    """Interpolate the ground's albedo (0..1) bilinearly, clamped at the border."""
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


@inlined
def _sky(
    light: NDArray[np.float64],  # (LIGHT_SIZE,)
    clouds: NDArray[np.float32],  # (S, S)
    dx: float,
    dy: float,
    dz: float,
) -> _Colour:
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


@inlined
def _beam(
    light: NDArray[np.float64],  # (LIGHT_SIZE,)
    beam: NDArray[np.float64],  # (4,) x, y m, cos and sin of the yaw of the ego
    px: float,
    py: float,
    pz: float,
) -> float:
    """Return the light of the ego's headlamps at a point: a cone that fades ahead and sideways."""
    x, y = px - beam[0], py - beam[1]
    ahead = beam[2] * x + beam[3] * y - 3.0
    if ahead <= 0.0:
        return 0.0
    lateral = (beam[2] * y - beam[3] * x) / (ahead + 3.0) * 1.8
    reach = ahead / 16.0
    high = max(0.0, pz - 0.9)
    lateral *= lateral
    gain: float = (
        light[16]
        * min(1.0, 0.25 * ahead)
        / ((1.0 + lateral * lateral) * (1.0 + reach * reach) * (1.0 + 2.0 * high))
    )
    return gain


@inlined
def _box_face(
    hx: float,
    hy: float,
    hz: float,
    front: float,
    back: float,
    side: float,
    lx: float,
    ly: float,
    lz: float,
) -> int:
    """Return the face of a sloped box on which a point lies: the plane with the least residual."""
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


@inlined
def _surface(
    kind: int,
    hx: float,
    hy: float,
    hz: float,
    front: float,
    back: float,
    side: float,
    lx: float,
    ly: float,
    lz: float,
) -> tuple[int, float, float, float, float, float]:
    """Return face, u, v and the outward normal (not of unit length) in the primitive's frame."""
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


@inlined
def _lit(
    g: NDArray[np.float64],  # (P, 12)
    codes: NDArray[np.int32],  # (P, 4)
    paints: NDArray[np.float32],  # (P, 8)
    p: int,
    light: NDArray[np.float64],  # (LIGHT_SIZE,)
    beam: NDArray[np.float64],  # (4,)
    px: float,
    py: float,
    pz: float,
) -> _Colour:
    """Return the colour before haze of the point (px, py, pz) of primitive p."""
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
    red, green, blue, emission = paint(
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
    gain *= 0.75 + 0.25 * min(1.0, pz / 0.8)  # less light near the ground
    if light[16] > 0.0:
        gain += 0.8 * _beam(light, beam, px, py, pz)
    gain += emission * max(0.0, 1.0 - gain)
    return red * gain, green * gain, blue * gain


@compiled_nogil
def shade_image(
    geometry: NDArray[np.float64],  # (P, 12)
    codes: NDArray[np.int32],  # (P, 4)
    paints: NDArray[np.float32],  # (P, 8)
    depth: NDArray[np.float64],  # (H, W)
    owner: NDArray[np.int32],  # (H, W)
    shade: NDArray[np.float32],  # (H, W)
    origin: NDArray[np.float64],  # (3,)
    scene_from_cam: NDArray[np.float64],  # (3, 3)
    intrinsics: NDArray[np.float64],  # (3, 3)
    texels: NDArray[np.uint8],  # (T,)
    levels: NDArray[np.int64],  # (L, 3)
    corner: NDArray[np.float64],  # (2,)
    texels_per_m: float,
    light: NDArray[np.float64],  # (LIGHT_SIZE,)
    clouds: NDArray[np.float32],  # (S, S)
    beam: NDArray[np.float64],  # (4,)
    image: NDArray[np.float32],  # (H, W, 3) out
) -> None:
    """Write the linear colours of one camera into `image`.

    Args:
        geometry: of `Primitives`.
        codes: of `Primitives`.
        paints: of `Primitives`.
        depth: from `rasterise`.
        owner: from `rasterise`.
        shade: from `darken_ground`.
        origin: camera centre in the scene, m.
        scene_from_cam: rotation.
        intrinsics: px.
        texels: RGB of the ground's pyramid, see `Ground`.
        levels: first entry, rows and columns of each level of the pyramid.
        corner: x and y of the ground's outer corner, m.
        texels_per_m: resolution of level 0.
        light: `Light.values`.
        clouds: `Light.clouds`; the side is a power of two.
        beam: x, y m, cos and sin of the yaw of the ego.
        image: linear RGB.
    """
    height, width = owner.shape
    transmittances = np.exp(-np.arange(HAZE_ENTRIES) * (HAZE_STEP_M / light[6]))
    # distance on the ground up to which each level of the pyramid is fine enough
    level_reach = np.empty(levels.shape[0])
    for level in range(levels.shape[0]):
        texel = 1.5 * (1 << level) / texels_per_m
        level_reach[level] = (texel * intrinsics[0, 0] / 1.3 * math.sqrt(origin[2])) ** (2.0 / 3.0)
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
                while level < levels.shape[0] - 1 and t > level_reach[level]:
                    level += 1
                x, y = origin[0] + t * dx, origin[1] + t * dy
                red, green, blue = _ground(texels, levels, level, corner, texels_per_m, x, y)
                gain = sunlit * shade[row, col]
                if light[16] > 0.0:
                    gain += _beam(light, beam, x, y, 0.0)
                red, green, blue = red * gain, green * gain, blue * gain
                if light[15] > 0.0:  # a film of water: darker, and a mirror at grazing angles
                    mirror = mirror_share(light[15], dx, dy, dz)
                    diffuse = (1.0 - 0.35 * light[15]) * (1.0 - mirror)
                    above = _sky(light, clouds, dx, dy, -dz)
                    red, green, blue = (
                        red * diffuse + mirror * above[0],
                        green * diffuse + mirror * above[1],
                        blue * diffuse + mirror * above[2],
                    )
            else:
                t = 0.0  # the sky's colour includes haze
                red, green, blue = _sky(light, clouds, dx, dy, max(dz, 0.0))
            clear = transmittances[min(int(t * (1.0 / HAZE_STEP_M)), HAZE_ENTRIES - 1)]
            image[row, col, 0] = red * clear + light[7] * (1.0 - clear)
            image[row, col, 1] = green * clear + light[8] * (1.0 - clear)
            image[row, col, 2] = blue * clear + light[9] * (1.0 - clear)


@compiled_nogil
def develop(
    image: NDArray[np.float32],  # (H * factor, W * factor, 3)
    factor: int,
    gains: NDArray[np.float64],  # (3,)
    noise: NDArray[np.float32],  # (A, B)
    noise_row: int,
    noise_col: int,
    out: NDArray[np.uint8],  # (H, W, 3) out
) -> None:
    """Average the supersamples, apply exposure and sensor noise, and write BGR bytes.

    Args:
        image: linear RGB.
        factor: supersamples per axis.
        gains: exposure times white balance.
        noise: in units of 0..255; both sides are powers of two. It is read from
            (noise_row, noise_col) on and repeats.
        noise_row: first row of the noise for this picture.
        noise_col: first column of the noise for this picture.
        out: BGR.
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
