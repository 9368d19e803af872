"""Paint of primitives: windows, lamps, stripes, faces, bricks (numba).

Lamps, number plates, windscreens and dark rears show the heading of a vehicle.
A pattern returns the albedo and the emission of a point, each in 0..1.
Faces: 0 front (+x), 1 back, 2 left (+y), 3 right, 4 top, 5 bottom. `u` and `v` run over the face
in 0..1: u along x on the sides (1 = front) and along y on front and back, v upwards.
`c` and `d` are the first and the second colour of the primitive.
"""

from __future__ import annotations

import math

from bevstack.synthetic.renderer.compiled import compiled, inlined
from bevstack.synthetic.renderer.lamp_patterns import (
    paint_advertisement,
    paint_head,
    paint_numbered_sign,
)
from bevstack.synthetic.renderer.sign_patterns import paint_light, paint_sign

_Colour = tuple[float, float, float]
_Paint = tuple[float, float, float, float]  # red, green, blue, emission

_GLASS = (0.10, 0.13, 0.17)
_DARK = (0.05, 0.05, 0.06)


@inlined
def hash01(a: int, b: int, seed: int) -> float:
    """Return a fixed pseudo-random number in 0..1 for two integers and a seed."""
    n = (a * 374761393 + b * 668265263 + seed * 1274126177) & 0xFFFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFF) / 65535.0


@inlined
def _tail_lamps(state: float) -> _Paint:
    """Return the paint of red lamps: brighter while braking, off for a negative state."""
    if state < 0.0:
        return 0.42, 0.03, 0.03, 0.04
    return (0.55 + 0.45 * state, 0.03 + 0.10 * state, 0.03 + 0.06 * state, 0.35 + 0.65 * state)


@inlined
def _head_lamps(state: float) -> _Paint:
    """Return the paint of white lamps: off for a negative state."""
    if state < 0.0:
        return 0.72, 0.74, 0.74, 0.05
    return 1.0, 0.97, 0.85, 0.9


@compiled
def _car_body(face: int, u: float, v: float, c: _Colour, d: _Colour, state: float) -> _Paint:
    if face == 0:
        if (u < 0.24 or u > 0.76) and 0.45 < v < 0.82:
            return _head_lamps(state)
        if 0.36 < u < 0.64 and 0.12 < v < 0.32:
            return 0.85, 0.85, 0.8, 0.0
        if 0.28 < u < 0.72 and 0.38 < v < 0.75:
            return _DARK[0], _DARK[1], _DARK[2], 0.0
        if v < 0.12:
            return _DARK[0], _DARK[1], _DARK[2], 0.0
    elif face == 1:
        if (u < 0.22 or u > 0.78) and 0.48 < v < 0.9:
            return _tail_lamps(state)
        if 0.36 < u < 0.64 and 0.38 < v < 0.58:
            return 0.8, 0.75, 0.45, 0.0
        if v < 0.3:
            return _DARK[0], _DARK[1], _DARK[2], 0.0
    elif face < 4:
        if v < 0.14:
            return _DARK[0], _DARK[1], _DARK[2], 0.0
        if abs(u - 0.30) < 0.006 or abs(u - 0.50) < 0.006 or abs(u - 0.70) < 0.006:
            return 0.4 * c[0], 0.4 * c[1], 0.4 * c[2], 0.0
        if u > 0.955 and 0.5 < v < 0.8:
            return _head_lamps(state)
        if u < 0.045 and 0.5 < v < 0.9:
            return _tail_lamps(state)
    return c[0], c[1], c[2], 0.0


@compiled
def _car_cabin(face: int, u: float, v: float, c: _Colour) -> _Paint:
    glass = False
    if face == 0:
        glass = 0.05 < u < 0.95 and 0.06 < v < 0.92
    elif face == 1:
        glass = 0.14 < u < 0.86 and 0.28 < v < 0.88
    elif face < 4:
        glass = 0.12 < v < 0.85 and 0.05 < u < 0.95 and abs(u - 0.48) > 0.025
    if glass:
        shine = 0.16 * v if face == 0 else 0.04
        return _GLASS[0] + shine, _GLASS[1] + shine, _GLASS[2] + 1.2 * shine, 0.1
    return c[0], c[1], c[2], 0.0


@compiled
def _bus_body(
    face: int, u: float, v: float, along: float, c: _Colour, d: _Colour, state: float
) -> _Paint:
    if face == 0:
        if 0.86 < v < 0.96 and 0.15 < u < 0.85:
            return 1.0, 0.62, 0.10, 0.9 if state >= 0.0 else 0.1
        if 0.36 < v < 0.84 and 0.05 < u < 0.95:
            return _GLASS[0] + 0.15 * v, _GLASS[1] + 0.15 * v, _GLASS[2] + 0.2 * v, 0.1
        if (u < 0.2 or u > 0.8) and 0.10 < v < 0.2:
            return _head_lamps(state)
    elif face == 1:
        if (u < 0.12 or u > 0.88) and (0.12 < v < 0.3 or 0.85 < v < 0.95):
            return _tail_lamps(state)
        if 0.6 < v < 0.84 and 0.2 < u < 0.8:
            return _GLASS[0], _GLASS[1], _GLASS[2], 0.05
        if 0.1 < v < 0.45 and 0.2 < u < 0.8 and int(v * 40.0) % 2 == 0:
            return _DARK[0], _DARK[1], _DARK[2], 0.0
    elif face < 4:
        if 0.46 < v < 0.82:
            if along - 1.5 * math.floor(along / 1.5) > 0.14:
                return _GLASS[0] + 0.05, _GLASS[1] + 0.06, _GLASS[2] + 0.08, 0.08
            return c[0], c[1], c[2], 0.0
        if face == 3 and 0.03 < v < 0.46 and (0.86 < u < 0.94 or 0.45 < u < 0.53):
            return _GLASS[0], _GLASS[1], _GLASS[2], 0.0
        if 0.24 < v < 0.36:
            return d[0], d[1], d[2], 0.0
    return c[0], c[1], c[2], 0.0


@compiled
def _cargo(
    face: int, u: float, v: float, along: float, c: _Colour, d: _Colour, state: float
) -> _Paint:
    if face == 1:
        if v < 0.08:
            if u < 0.15 or u > 0.85:
                return _tail_lamps(state)
            if int(u * 16.0) % 2 == 0:
                return 0.75, 0.05, 0.05, 0.0
            return 0.9, 0.9, 0.9, 0.0
        if abs(u - 0.5) < 0.012 or abs(u - 0.25) < 0.006 or abs(u - 0.75) < 0.006:
            return 0.3 * c[0], 0.3 * c[1], 0.3 * c[2], 0.0
    elif face == 2 or face == 3:
        if 0.30 < v < 0.62 and 0.22 < u < 0.78:
            return d[0], d[1], d[2], 0.0
        if v < 0.05:
            return 0.7, 0.1, 0.05, 0.0
    return c[0], c[1], c[2], 0.0


@compiled
def _truck_cab(face: int, u: float, v: float, c: _Colour, state: float) -> _Paint:
    if face == 0:
        if 0.52 < v < 0.90 and 0.06 < u < 0.94:
            return _GLASS[0] + 0.14 * v, _GLASS[1] + 0.14 * v, _GLASS[2] + 0.18 * v, 0.1
        if (u < 0.22 or u > 0.78) and 0.10 < v < 0.24:
            return _head_lamps(state)
        if 0.26 < u < 0.74 and 0.10 < v < 0.46:
            if int(v * 28.0) % 2 == 0:
                return _DARK[0], _DARK[1], _DARK[2], 0.0
            return 0.35, 0.35, 0.37, 0.0
    elif face == 1:
        return 0.5 * c[0], 0.5 * c[1], 0.5 * c[2], 0.0
    elif face < 4:
        if 0.54 < v < 0.90 and 0.36 < u < 0.88:
            return _GLASS[0], _GLASS[1], _GLASS[2], 0.05
        if v < 0.1:
            return _DARK[0], _DARK[1], _DARK[2], 0.0
    return c[0], c[1], c[2], 0.0


@compiled
def _container(
    face: int, u: float, v: float, along: float, c: _Colour, d: _Colour, state: float
) -> _Paint:
    if face == 1:
        if v < 0.07:
            return _tail_lamps(state)
        if v < 0.2 or u < 0.06 or u > 0.94:
            if int(u * 10.0 + v * 10.0) % 2 == 0:
                return 0.85, 0.08, 0.05, 0.0
            return 0.95, 0.9, 0.2, 0.0
        if abs(u - 0.5) < 0.015:
            return _DARK[0], _DARK[1], _DARK[2], 0.0
        return 0.8 * c[0], 0.8 * c[1], 0.8 * c[2], 0.0
    if face == 2 or face == 3:
        if v < 0.05:
            return 0.9, 0.75, 0.1, 0.0
        rib = along * 2.2 - math.floor(along * 2.2)
        gain = 0.62 if rib < 0.3 else 1.0
        return gain * c[0], gain * c[1], gain * c[2], 0.0
    return c[0], c[1], c[2], 0.0


@compiled
def _house(
    face: int, along: float, up: float, c: _Colour, d: _Colour, state: float, seed: float
) -> _Paint:
    if face < 4:
        key = int(seed * 9973.0)
        pitch, storey = 2.2 + 1.6 * seed, 3.1
        i, j = math.floor(along / pitch), math.floor(up / storey)
        a, b = along / pitch - i, up / storey - j
        if j == 0:
            shop = hash01(i // 2, 0, key)
            if 0.08 < a < 0.92 and 0.15 < b < 0.78:
                if state > 0.0 and shop > 0.4:
                    return 0.85, 0.78, 0.62, 0.75
                return 0.16 + 0.2 * shop, 0.18 + 0.15 * shop, 0.2, 0.1
            if b > 0.8:
                return d[0], d[1], d[2], 0.0
        elif 0.22 < a < 0.78 and 0.25 < b < 0.80:
            lit = hash01(i, j, key)
            if state > 0.0 and lit > 0.68:
                return 0.85, 0.70 + 0.15 * (lit - 0.68), 0.42, 0.7
            if lit > 0.9:
                return 0.75, 0.66, 0.42, 0.02
            return 0.17 + 0.14 * lit, 0.20 + 0.15 * lit, 0.25 + 0.18 * lit, 0.05
    return c[0], c[1], c[2], 0.0


@compiled
def _clothes(
    pattern: int, face: int, u: float, v: float, c: _Colour, d: _Colour, state: float
) -> _Paint:
    if pattern == 12:  # head: a face in front, hair behind
        return (c[0], c[1], c[2], 0.0) if face == 0 else (d[0], d[1], d[2], 0.0)
    if pattern == 14:  # hi-vis vest
        if (0.30 < v < 0.42) or (0.62 < v < 0.74):
            return 0.9, 0.9, 0.92, 0.2
        return c[0], c[1], c[2], 0.15
    if face == 0 and abs(u - 0.5) < 0.13:
        return 0.5 + 0.5 * c[0], 0.5 + 0.5 * c[1], 0.5 + 0.5 * c[2], 0.0
    if face == 1 and 0.15 < u < 0.85 and 0.2 < v < 0.9:
        return d[0], d[1], d[2], 0.0
    return c[0], c[1], c[2], 0.0


@compiled
def paint(
    pattern: int,
    face: int,
    u: float,
    v: float,
    along: float,
    up: float,
    c: _Colour,
    d: _Colour,
    state: float,
    seed: float,
) -> _Paint:
    """Return albedo and emission of a point.

    Args:
        pattern: `primitives.Pattern`.
        face: see the module.
        u: see the module.
        v: see the module.
        along: metres along u.
        up: metres along v.
        c: first colour.
        d: second colour.
        state: of lamps: negative off, 0 on, 1 braking; of houses: positive at night.
        seed: 0..1, of the primitive.

    Returns:
        Red, green, blue and emission, all 0..1.
    """
    if pattern == 1:
        return _car_body(face, u, v, c, d, state)
    if pattern == 2:
        return _car_cabin(face, u, v, c)
    if pattern == 3:
        return _bus_body(face, u, v, along, c, d, state)
    if pattern == 4:
        return _cargo(face, u, v, along, c, d, state)
    if pattern == 5:
        return _truck_cab(face, u, v, c, state)
    if pattern == 6:  # tyre: `u` is the distance from the axle over the radius
        return (c[0], c[1], c[2], 0.0) if face >= 4 or u > 0.55 else (d[0], d[1], d[2], 0.0)
    if pattern == 7:  # slanted stripes
        slant = (along + up) * 2.5
        return (
            (c[0], c[1], c[2], 0.0) if slant - math.floor(slant) < 0.5 else (d[0], d[1], d[2], 0.0)
        )
    if pattern == 8:  # bands of a cone
        return (d[0], d[1], d[2], 0.1) if 0.42 < v < 0.68 else (c[0], c[1], c[2], 0.1)
    if pattern == 9:
        return _container(face, u, v, along, c, d, state)
    if pattern == 10:
        return _house(face, along, up, c, d, state, seed)
    if 12 <= pattern <= 14:
        return _clothes(pattern, face, u, v, c, d, state)
    if pattern == 15:  # machine: a dark hazard band around the foot
        if v < 0.22 and face < 4:
            slant = (along + up) * 2.0
            if slant - math.floor(slant) < 0.5:
                return _DARK[0], _DARK[1], _DARK[2], 0.0
        if face == 1 and (u < 0.14 or u > 0.86) and v > 0.75:
            return _tail_lamps(state)
        return c[0], c[1], c[2], 0.0
    if pattern == 16:  # glazed cabin
        if face < 4 and 0.08 < u < 0.92 and 0.2 < v < 0.9:
            return _GLASS[0] + 0.08, _GLASS[1] + 0.1, _GLASS[2] + 0.12, 0.05
        return c[0], c[1], c[2], 0.0
    if pattern == 18:
        return paint_light(face, u, v, state)
    if pattern == 19:
        return paint_sign(face, u, v, state, seed)
    if pattern == 17:  # lamp in the first colour; a negative state is off
        return c[0], c[1], c[2], 1.0 if state >= 0.0 else 0.0
    if pattern == 20:
        return paint_head(face, u, v, c, d, state)
    if pattern == 21:
        return paint_numbered_sign(face, u, v, c, state)
    if pattern == 22:
        return paint_advertisement(face, u, v, along, up, c, d, state, seed)
    return c[0], c[1], c[2], 0.0
