"""Drawing of traffic lights and signs in the bird's-eye view."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Canvas
from bevstack.render.colors import BLACK, RGB
from bevstack.render.element_marks import ElementMark
from bevstack.render.labels import Label, LabelPlacer
from bevstack.render.lamp_glyphs import draw_glyph

Points = NDArray[np.float64]
_STOP_LINE_HALF_M = 1.75  # half a lane
_HEADING_PX = 2.2  # length of the line to where an element faces, in radii of its glyph


@dataclass(frozen=True)
class ElementDrawing:
    """Access of this file to a bird's-eye view: its canvas, its scale and its clipping."""

    canvas: Canvas
    to_pixels: Callable[[Points], Points]  # (..., 2) metres in the ego frame
    clip: Callable[[Points], Points]  # (E, 2, 2) segments in pixels

    @property
    def radius_px(self) -> float:
        """Return the radius of an element's glyph."""
        return max(self.canvas.size[1] / 90, 5.0)

    def line(self, points_m: Points, color: RGB, thickness_px: int) -> None:
        """Draw the visible part of a line through points in metres."""
        if len(points_m) < 2:
            return
        segments = np.stack((points_m[:-1], points_m[1:]), 1)
        for segment in self.clip(self.to_pixels(segments)):
            self.canvas.line(segment, color, thickness_px)


def draw_lanes(drawing: ElementDrawing, marks: Sequence[ElementMark]) -> None:
    """Draw the lanes that governing lights govern, and stop lines, in the colour of the state."""
    thickness = max(round(drawing.canvas.size[0] / 300), 2)
    for mark in marks:
        if not mark.governs or mark.kind != "light":
            continue
        for lane in mark.lanes:
            drawing.line(lane, _dimmed(mark.color), thickness)
        if mark.stop_line_m is not None:
            x, half = mark.stop_line_m, _STOP_LINE_HALF_M
            drawing.line(np.array([[x, -half], [x, half]]), mark.color, thickness + 1)


def draw_marks(drawing: ElementDrawing, marks: Sequence[ElementMark], placer: LabelPlacer) -> None:
    """Draw each element at its place, with a line towards the side that it faces.

    Elements that govern the own lane have a ring and their name; where there is free space, the
    remaining ones have their name too.
    """
    placed = [(mark, center) for mark in marks if (center := _center(drawing, mark)) is not None]
    placed.sort(key=lambda pair: pair[0].governs)
    radius = drawing.radius_px
    for mark, center in placed:
        if mark.yaw_rad is not None:
            facing = np.array([-math.sin(mark.yaw_rad), -math.cos(mark.yaw_rad)])
            line = np.stack((center, center + _HEADING_PX * radius * facing))
            drawing.canvas.line(line, mark.color, 2)
        column, row = center.tolist()
        if mark.governs:
            drawing.canvas.disc((column, row), 1.75 * radius, mark.color)
            drawing.canvas.disc((column, row), 1.5 * radius, BLACK)
        draw_glyph(drawing.canvas, mark, (column, row), radius)
        placer.occupy(_around(center, 1.6 * radius))
    for mark, center in reversed(placed):
        if mark.governs:
            outline = _around(center, 1.6 * radius)
            placer.write_beside(Label(mark.name, mark.color, outline))


def _center(drawing: ElementDrawing, mark: ElementMark) -> Points | None:  # (2,) pixels
    """Return the place of an element in the view; None if it is unknown or outside."""
    if mark.position_m is None:
        return None
    center = drawing.to_pixels(np.array(mark.position_m[:2]))
    height, width = drawing.canvas.size
    margin = 2 * drawing.radius_px
    inside = margin <= center[0] < width - margin and margin <= center[1] < height - margin
    return center if inside else None


def _around(center: Points, half: float) -> Points:  # (4, 2)
    return center + half * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _dimmed(color: RGB) -> RGB:
    red, green, blue = (round(0.62 * channel) for channel in color)
    return (red, green, blue)
