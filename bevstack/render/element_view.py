"""Drawing of traffic lights and signs on a camera image."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Canvas
from bevstack.render.colors import BLACK, WHITE
from bevstack.render.element_marks import ElementMark
from bevstack.render.labels import Label, LabelPlacer
from bevstack.render.lamp_glyphs import draw_glyph

_PREDICTED_GAP_PX, _TRUE_GAP_PX = 2.0, 5.0  # from an element to its frame: the lamp stays visible
_CORNER = 0.3  # length of a true element's corners, relative to its sides


def draw_elements(
    canvas: Canvas,
    elements: Sequence[ElementMark],  # with boxes in pixels of this picture
    true_elements: Sequence[ElementMark] = (),
) -> None:
    """Draw a frame around each element in the colour of its state, and corners around true ones.

    The frame of an element that governs the own lane is thick.
    """
    thin = max(round(canvas.size[1] / 900), 1)
    for mark in true_elements:
        for corner in corner_angles(_outline(mark, _TRUE_GAP_PX)):
            canvas.line(corner, BLACK, thin + 2)
        for corner in corner_angles(_outline(mark, _TRUE_GAP_PX)):
            canvas.line(corner, WHITE, thin)
    for mark in sorted(elements, key=lambda mark: mark.governs):
        outline = _outline(mark, _PREDICTED_GAP_PX)
        ring = np.concatenate((outline, outline[:1]))
        thickness = thin + 1 if mark.governs else thin
        canvas.line(ring, BLACK, thickness + 2)
        canvas.line(ring, mark.color, thickness)


def occupy_elements(placer: LabelPlacer, canvas: Canvas, elements: Sequence[ElementMark]) -> None:
    """Keep elements free of labels."""
    for mark in elements:
        placer.occupy(_inside(_outline(mark, _TRUE_GAP_PX), canvas))


def label_elements(placer: LabelPlacer, canvas: Canvas, elements: Sequence[ElementMark]) -> None:
    """Write lamp or sign, name, distance and probability beside each element.

    Elements that govern the own lane come first, then near ones.
    """
    order = sorted(elements, key=lambda mark: (not mark.governs, mark.distance_m or 0.0))
    for mark in order:
        icon = functools.partial(_draw_icon, mark)
        outline = _inside(_outline(mark, _TRUE_GAP_PX), canvas)
        placer.write_above(Label(mark.caption, mark.color, outline, icon))


def _draw_icon(
    mark: ElementMark, canvas: Canvas, center: tuple[float, float], radius: float
) -> None:
    draw_glyph(canvas, mark, center, radius)


def _outline(mark: ElementMark, gap_px: float) -> NDArray[np.float64]:  # (4, 2)
    assert mark.box_px is not None  # the sheet gives a view only the marks with a box
    left, top, right, bottom = mark.box_px
    low, high = np.array([left, top]) - gap_px, np.array([right, bottom]) + gap_px
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def corner_angles(outline: NDArray[np.float64]) -> list[NDArray[np.float64]]:  # 4 of (3, 2)
    """Return the angles at the four corners of a rectangle."""
    found = []
    for index in range(4):
        corner = outline[index]
        before, after = outline[index - 1], outline[(index + 1) % 4]
        ends = [corner + _CORNER * (end - corner) for end in (before, after)]
        found.append(np.stack((ends[0], corner, ends[1])))
    return found


def _inside(outline: NDArray[np.float64], canvas: Canvas) -> NDArray[np.float64]:
    height, width = canvas.size
    clipped: NDArray[np.float64] = np.clip(outline, 0, (width - 1, height - 1))
    return clipped
