"""Small drawings of a lit lamp or of a sign, as a reader knows them from the street."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Canvas
from bevstack.render.colors import BLACK, HOUSING, RGB, STATE_COLORS, WHITE
from bevstack.render.element_marks import ElementMark
from bevstack.types.traffic import Lamp

Points = NDArray[np.float64]

# Arrows in a square of side 2 around 0, y down: the shaft, and the direction of its head.
_UP: Sequence[tuple[float, float]] = ((0.0, 0.7), (0.0, -0.7))
_SHAFTS: dict[str, Sequence[tuple[float, float]]] = {
    "straight": _UP,
    "left": ((0.7, 0.0), (-0.7, 0.0)),
    "right": ((-0.7, 0.0), (0.7, 0.0)),
    "slight_left": ((0.5, 0.5), (-0.5, -0.5)),
    "slight_right": ((-0.5, 0.5), (0.5, -0.5)),
    "u_turn": ((0.45, 0.7), (0.45, -0.3), (0.1, -0.6), (-0.3, -0.5), (-0.45, -0.2), (-0.45, 0.55)),
}
_SIGN_SHAPES = {
    "go_straight": "straight",
    "turn_left": "left",
    "turn_right": "right",
    "slight_left": "slight_left",
    "slight_right": "slight_right",
    "u_turn": "u_turn",
    "no_left_turn": "left",
    "no_right_turn": "right",
    "no_u_turn": "u_turn",
}
_RED: RGB = (214, 40, 44)
_BLUE: RGB = (28, 96, 190)


def draw_glyph(
    canvas: Canvas, mark: ElementMark, center: tuple[float, float], radius: float
) -> None:
    """Draw a light's lit lamps, or a sign, in a circle; the centre is in continuous pixels.

    A light without a lit lamp shows an empty ring. Two lit lamps stand one above the other, red
    first.
    """
    if mark.kind == "sign":
        _draw_sign(canvas, mark.meaning, center, radius)
        return
    canvas.polygon(_square(center, radius), HOUSING, 1.0)
    lamps = sorted(mark.lamps, key=lambda lamp: lamp.color != "red")[:2]
    if not lamps:
        color = mark.color
        canvas.circle(center, 0.75 * radius, color)
        return
    if len(lamps) == 1:
        _draw_lamp(canvas, lamps[0], center, 0.86 * radius)
        return
    for lamp, down in zip(lamps, (-0.5, 0.5), strict=True):
        _draw_lamp(canvas, lamp, (center[0], center[1] + down * radius), 0.47 * radius)


def _draw_lamp(canvas: Canvas, lamp: Lamp, center: tuple[float, float], radius: float) -> None:
    color = STATE_COLORS.get(lamp.color, STATE_COLORS["unknown"])
    if lamp.shape in _SHAFTS:
        _draw_arrow(canvas, lamp.shape, center, radius, color)
    elif lamp.shape == "pedestrian":
        canvas.disc((center[0], center[1] - 0.6 * radius), max(0.26 * radius, 1.0), color)
        body = ((0.0, -0.25), (0.0, 0.3), (-0.4, 0.9), (0.0, 0.3), (0.4, 0.9))
        canvas.line(_placed(body, center, radius), color, _stroke(radius))
    else:
        canvas.disc(center, radius, color)
    if lamp.status == "flashing":
        for side in (-1, 1):  # rays beside the lamp
            ray = ((1.0 * side, -0.7), (1.0 * side, 0.7))
            canvas.line(_placed(ray, center, radius), color, 1)


def _draw_arrow(
    canvas: Canvas, shape: str, center: tuple[float, float], radius: float, color: RGB
) -> None:
    points = _placed(_SHAFTS[shape], center, radius)
    direction = points[-1] - points[-2]
    direction = direction / np.linalg.norm(direction)
    across = np.array([-direction[1], direction[0]])
    tip = points[-1] + 0.15 * radius * direction
    base = tip - 0.75 * radius * direction
    canvas.line(np.vstack((points[:-1], base + 0.2 * radius * direction)), color, _stroke(radius))
    wings = (tip, base + 0.62 * radius * across, base - 0.62 * radius * across)
    canvas.polygon(np.stack(wings), color, 1.0)


def _draw_sign(canvas: Canvas, meaning: str, center: tuple[float, float], radius: float) -> None:
    shape = _SIGN_SHAPES.get(meaning)
    if meaning == "stop":
        angles = [math.pi / 8 + math.pi / 4 * k for k in range(8)]
        corners = [(math.cos(a), math.sin(a)) for a in angles]
        canvas.polygon(_placed(corners, center, radius), _RED, 1.0)
        bar = ((-0.55, 0.0), (0.55, 0.0))
        canvas.line(_placed(bar, center, radius), WHITE, _stroke(radius))
    elif meaning.startswith("no_") and shape is not None:
        canvas.disc(center, radius, _RED)
        canvas.disc(center, 0.76 * radius, WHITE)
        _draw_arrow(canvas, shape, center, 0.6 * radius, BLACK)
        bar = ((-0.6, -0.6), (0.6, 0.6))
        canvas.line(_placed(bar, center, radius), _RED, _stroke(radius))
    elif shape is not None:
        canvas.disc(center, radius, _BLUE)
        _draw_arrow(canvas, shape, center, 0.7 * radius, WHITE)
    elif meaning == "speed_limit":
        canvas.disc(center, radius, _RED)
        canvas.disc(center, 0.7 * radius, WHITE)
    else:
        corners = [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]
        canvas.polygon(_placed(corners, center, radius), STATE_COLORS["sign"], 1.0)


def _square(center: tuple[float, float], radius: float) -> Points:
    return _placed(((-1, -1), (1, -1), (1, 1), (-1, 1)), center, radius)


def _placed(
    points: Sequence[tuple[float, float]], center: tuple[float, float], radius: float
) -> Points:
    return np.asarray(points, np.float64) * radius + np.asarray(center, np.float64)


def _stroke(radius: float) -> int:
    return max(round(0.32 * radius), 1)
