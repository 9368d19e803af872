"""Paint of traffic lights and traffic signs (numba).

`x` runs over the plate from the viewer's left to right and `y` upwards, both in -1..1.
"""

from __future__ import annotations

from bevstack.synthetic.renderer.compiled import compiled, inlined

# Attributes of OpenLane-V2 that are signs; see `tables.traffic_elements`.
_STRAIGHT, _LEFT, _RIGHT, _NO_LEFT, _NO_RIGHT = 4, 5, 6, 7, 8
_U_TURN, _NO_U_TURN, _SLIGHT_LEFT, _SLIGHT_RIGHT = 9, 10, 11, 12


@compiled
def paint_light(face: int, u: float, v: float, state: float) -> tuple[float, float, float, float]:
    """Return albedo and emission of a point of a housing with three lamps.

    Args:
        face: 0 is the face with the lamps.
        u: 0..1 across.
        v: 0..1 upwards.
        state: attribute of the lamp that is lit: 1 red, 2 green, 3 yellow.
    """
    if face != 0:
        return 0.10, 0.11, 0.10, 0.0
    lamp = min(int(v * 3.0), 2)  # 0 green below, 1 yellow, 2 red
    x, y = 2.0 * u - 1.0, 6.0 * (v - (lamp + 0.5) / 3.0)
    if x * x + y * y > 0.72:
        return 0.05, 0.05, 0.05, 0.0
    if lamp == 2:
        lit = abs(state - 1.0) < 0.5
        return (1.0, 0.06, 0.04, 1.0) if lit else (0.16, 0.03, 0.03, 0.0)
    if lamp == 1:
        lit = abs(state - 3.0) < 0.5
        return (1.0, 0.72, 0.05, 1.0) if lit else (0.16, 0.13, 0.03, 0.0)
    lit = abs(state - 2.0) < 0.5
    return (0.10, 1.0, 0.42, 1.0) if lit else (0.03, 0.13, 0.07, 0.0)


@inlined
def arrow(along: float, across: float, start: float) -> bool:
    """Return True if a point lies in an arrow that ends at along = 0.8."""
    if start < along < 0.25:
        return abs(across) < 0.16
    return 0.15 < along < 0.80 and abs(across) < 0.85 * (0.80 - along)


@compiled
def symbol(kind: int, x: float, y: float) -> bool:
    """Return True if a point lies in the arrow of a sign."""
    if kind in (_RIGHT, _NO_RIGHT, _SLIGHT_RIGHT):
        x = -x
    if kind == _STRAIGHT:
        return arrow(y, x, -0.75)
    if kind in (_U_TURN, _NO_U_TURN):
        if abs(x - 0.40) < 0.14:
            return -0.75 < y < 0.45
        if abs(y - 0.35) < 0.14 and -0.54 < x < 0.54:
            return True
        if y > -0.1:
            return abs(x + 0.40) < 0.14 and y < 0.45
        return y > -0.70 and abs(x + 0.40) < 0.6 * (y + 0.70)
    if kind in (_SLIGHT_LEFT, _SLIGHT_RIGHT):
        along, across = 0.7071 * (y - x), 0.7071 * (y + x)
        return arrow(along, across, -0.2) or (abs(x - 0.14) < 0.15 and -0.75 < y < -0.05)
    return arrow(-x, y - 0.15, -0.50) or (abs(x - 0.36) < 0.15 and -0.75 < y < 0.30)


@compiled
def paint_sign(
    face: int, u: float, v: float, state: float, seed: float
) -> tuple[float, float, float, float]:
    """Return albedo and emission of a point of a plate.

    Args:
        face: 0 is the painted face.
        u: 0..1 across.
        v: 0..1 upwards.
        state: attribute of the sign; 0 is a sign without an attribute.
        seed: 0..1; selects a speed limit or a stop sign for attribute 0.
    """
    if face != 0:
        return 0.45, 0.46, 0.47, 0.0
    kind = int(state + 0.5)
    x, y = 2.0 * u - 1.0, 2.0 * v - 1.0
    white, ring = (0.92, 0.92, 0.90, 0.06), (0.80, 0.05, 0.06, 0.06)
    radius = x * x + y * y
    if kind == 0:
        if seed < 0.5:  # a speed limit
            if 0.58 < radius < 0.98:
                return ring
            digits = abs(y) < 0.38 and 0.08 < abs(x) < 0.40
            return (0.05, 0.05, 0.05, 0.0) if digits else white
        if abs(x) + abs(y) > 1.40:  # stop
            return white
        return white if abs(y) < 0.20 and abs(x) < 0.70 else ring
    forbids = kind in (_NO_LEFT, _NO_RIGHT, _NO_U_TURN)
    if not forbids:
        return white if symbol(kind, x, y) else (0.04, 0.22, 0.68, 0.06)
    if 0.66 < radius < 1.0 or (radius < 0.8 and abs(x + y) < 0.15):
        return ring
    return (0.05, 0.05, 0.05, 0.0) if symbol(kind, 1.25 * x, 1.25 * y) else white
