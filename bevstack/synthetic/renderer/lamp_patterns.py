"""Paint of the lights, signs and advertisements of the preset `lights` (numba).

Codes of a light's paint are in its first colour: the housing (0 vertical, 1 horizontal with red on
the viewer's left, 2 horizontal with red on the right, 3 for pedestrians), the shape of its lamps
(an index of `vocabulary.LAMP_SHAPES`), and 1 for a white rim. The second colour is the housing's.
The state is a sum: 1 for a lit red lamp, 2 for yellow, 4 for green.
"""

from __future__ import annotations

import math

from bevstack.synthetic.renderer.compiled import compiled, inlined
from bevstack.synthetic.renderer.sign_patterns import paint_sign

_Colour = tuple[float, float, float]
_Paint = tuple[float, float, float, float]  # red, green, blue, emission

_GLOW = 1.5  # emission of a lit lamp: brighter than white paint
_STRAIGHT, _LEFT, _RIGHT, _PEDESTRIAN = 2, 3, 4, 8  # of LAMP_SHAPES


@inlined
def _person(x: float, y: float, walks: bool) -> bool:
    """Return True if a point lies in the figure of a person."""
    head = y - 0.62
    if x * x + head * head < 0.045:
        return True
    if not walks:
        if abs(x) < 0.24 and -0.15 < y < 0.40:
            return True
        return 0.03 < abs(x) < 0.20 and -0.85 < y <= -0.15
    if abs(x) < 0.15 and -0.15 < y < 0.40:
        return True
    if abs(abs(x) - 0.25 - 0.4 * (0.2 - y)) < 0.12 and -0.15 < y < 0.30:
        return True
    return abs(abs(x) - 0.50 * (-0.15 - y) - 0.06) < 0.12 and -0.85 < y <= -0.10


@inlined
def _thick_arrow(along: float, across: float) -> bool:
    """Return True if a point lies in an arrow that fills a lamp, so that it is seen from afar."""
    if -0.82 < along < 0.10:
        return abs(across) < 0.24
    return 0.10 <= along < 0.92 and abs(across) < 1.0 * (0.92 - along)


@compiled
def _lamp(lit: bool, colour: int, shape: int, x: float, y: float) -> _Paint:
    """Return the paint of a point (x, y in -1..1) of a lamp: 0 red, 1 yellow, 2 green."""
    radius = x * x + y * y
    inside = radius < 0.80
    if shape == _PEDESTRIAN:
        inside = _person(x, y, colour == 2)
    elif shape in (_STRAIGHT, _LEFT, _RIGHT):
        along, across = (y, x) if shape == _STRAIGHT else (-x, y)
        if shape == _RIGHT:
            along = -along
        inside = radius < 0.95 and _thick_arrow(along, across)
    if not inside:
        return 0.04, 0.04, 0.045, 0.0
    core = 0.22 if radius < 0.22 and shape != _PEDESTRIAN else 0.0
    if colour == 0:
        if lit:
            return 1.0, 0.05 + core, 0.04 + core, _GLOW
        return 0.13, 0.03, 0.03, 0.0
    if colour == 1:
        if lit:
            return 1.0, 0.56 + 0.6 * core, 0.03 + core, _GLOW
        return 0.13, 0.10, 0.03, 0.0
    if lit:
        return 0.06 + core, 0.95, 0.42 + 0.5 * core, _GLOW
    return 0.03, 0.10, 0.06, 0.0


@compiled
def paint_head(face: int, u: float, v: float, c: _Colour, d: _Colour, state: float) -> _Paint:
    """Return albedo and emission of a point of a light's housing.

    Args:
        face: 0 is the face with the lamps.
        u: 0..1 across, from the viewer's left to right.
        v: 0..1 upwards.
        c: codes of housing, shape and rim; see the module.
        d: colour of the housing.
        state: sum over the lit lamps; see the module.
    """
    if face != 0:
        return d[0], d[1], d[2], 0.0
    housing, shape, lit = int(c[0] + 0.5), int(c[1] + 0.5), int(state + 0.5)
    long = u if housing == 1 or housing == 2 else v
    short = v if housing == 1 or housing == 2 else u
    if c[2] > 0.5 and (min(short, 1.0 - short) < 0.06 or min(long, 1.0 - long) < 0.02):
        return 0.9, 0.9, 0.88, 0.0
    count = 2 if housing == 3 else 3
    place = min(int(long * count), count - 1)
    lx, ly = 2.0 * (long * count - place) - 1.0, 2.0 * short - 1.0
    x, y = (lx, ly) if housing == 1 or housing == 2 else (ly, lx)
    x, y = 1.12 * x, 1.12 * y
    if x * x + y * y > 1.0:
        return d[0], d[1], d[2], 0.0
    colour = place if housing == 1 else count - 1 - place
    if housing == 3 and colour == 1:
        colour = 2
    mask = 1 << colour
    return _lamp((lit & mask) != 0, colour, shape, x, y)


@inlined
def _digit(number: int, x: float, y: float) -> bool:
    """Return True if a point lies in a digit of seven segments, in x -1..1 and y -1..1."""
    if abs(x) > 1.0 or abs(y) > 1.0:
        return False
    # segments in bits: top, upper right, lower right, bottom, lower left, upper left, middle
    masks = (63, 6, 91, 79, 102, 109, 125, 7, 127, 111)
    mask = masks[number]
    if y > 0.68:
        return (mask & 1) != 0
    if y < -0.68:
        return (mask & 8) != 0
    if abs(y) < 0.16 and (mask & 64) != 0:
        return True
    if x > 0.36:
        return (mask & (2 if y > 0.0 else 4)) != 0
    if x < -0.36:
        return (mask & (32 if y > 0.0 else 16)) != 0
    return False


@compiled
def paint_numbered_sign(face: int, u: float, v: float, c: _Colour, state: float) -> _Paint:
    """Return albedo and emission of a point of a plate; a speed limit shows its number.

    Args:
        face: 0 is the painted face.
        u: 0..1 across.
        v: 0..1 upwards.
        c: the number of a speed limit, else 0.
        state: attribute of the sign; 0 is a stop sign or a speed limit.
    """
    number = int(c[0] + 0.5)
    if face != 0 or state > 0.5 or number == 0:
        return paint_sign(face, u, v, state, 1.0)
    x, y = 2.0 * u - 1.0, 2.0 * v - 1.0
    radius = x * x + y * y
    if radius > 1.0:
        return 0.45, 0.46, 0.47, 0.0
    if radius > 0.60:
        return 0.80, 0.05, 0.06, 0.06
    tens, units = number // 10, number % 10
    if _digit(tens, (x + 0.34) / 0.26, y / 0.42) or _digit(units, (x - 0.34) / 0.26, y / 0.42):
        return 0.05, 0.05, 0.05, 0.0
    return 0.92, 0.92, 0.90, 0.06


@compiled
def paint_advertisement(
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
    """Return albedo and emission of a point of a lit shop sign or an advertisement.

    Args:
        face: 0 is the lit face.
        u: 0..1 across.
        v: 0..1 upwards.
        along: m along u.
        up: m along v.
        c: colour of the ground.
        d: colour of the symbols.
        state: positive at night.
        seed: 0..1; selects a cross, discs, or lines of text.
    """
    glow = 1.2 if state > 0.0 else 0.5
    if face != 0:
        return 0.12, 0.12, 0.13, 0.0
    x, y = 2.0 * u - 1.0, 2.0 * v - 1.0
    inside = False
    if seed < 0.34:  # a cross, as of a pharmacy
        inside = (abs(x) < 0.26 and abs(y) < 0.80) or (abs(y) < 0.26 and abs(x) < 0.80)
    elif seed < 0.67:  # discs
        a = along * 2.5 - math.floor(along * 2.5) - 0.5
        b = up * 2.5 - math.floor(up * 2.5) - 0.5
        inside = a * a + b * b < 0.10
    else:  # text
        line = up * 4.0 - math.floor(up * 4.0)
        letter = along * 6.0 - math.floor(along * 6.0)
        inside = line < 0.55 and letter < 0.62 and abs(x) < 0.85 and abs(y) < 0.85
    if inside:
        return d[0], d[1], d[2], glow
    return c[0], c[1], c[2], 0.25 * glow
