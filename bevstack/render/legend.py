"""Legend of a sheet, which explains colours and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bevstack.render.arrows import ARROW_S
from bevstack.render.canvas import Canvas, fit_text, text_size
from bevstack.render.colors import BACKGROUND, MUTED, RGB, WHITE, class_color
from bevstack.render.layers import BoxLayer

# Up to this number of classes, list all of them, so that sheets of one rig are equal in size.
# Of a longer list, list the classes drawn.
_MAX_LISTED = 12


@dataclass(frozen=True)
class _Entry:
    text: str
    color: RGB
    swatch: str  # "solid", "dashed", "block", or "" for text alone


def draw_legend(
    layers: Sequence[BoxLayer],
    class_names: tuple[str, ...],
    width_px: int,
    cap_px: float,
) -> Canvas | None:
    """Draw the legend in as many rows as it needs; return None if there is no layer."""
    if not layers:
        return None
    line_px = text_size("x", cap_px)[0]
    swatch_px = round(2.2 * cap_px)
    gap_px = round(1.2 * cap_px)
    placed, left, row = [], 0, 0
    for entry in _entries(layers, class_names):
        indent = swatch_px if entry.swatch else 0
        text = fit_text(entry.text, cap_px, width_px - indent)
        width = indent + text_size(text, cap_px)[1]
        if left and left + width > width_px:
            left, row = 0, row + 1
        placed.append((entry, text, left, row))
        left += width + gap_px
    canvas = Canvas.filled((row + 1) * line_px, width_px, BACKGROUND)
    for entry, text, left, row in placed:
        _draw_swatch(canvas, entry, left, row * line_px, swatch_px, line_px)
        if text:
            indent = swatch_px if entry.swatch else 0
            canvas.text(text, left + indent, row * line_px, cap_px, MUTED)
    return canvas


def _entries(layers: Sequence[BoxLayer], class_names: tuple[str, ...]) -> list[_Entry]:
    entries = []
    for layer in layers:
        color = layer.style.color or WHITE
        swatch = "dashed" if layer.style.dashed else "solid"
        entries.append(_Entry(f"{layer.style.name} box", color, swatch))
    labels: Sequence[int] = range(len(class_names))
    if len(class_names) > _MAX_LISTED:
        labels = sorted({int(label) for layer in layers for label in layer.labels})
    for label in labels:
        name = class_names[label].replace("_", " ")
        entries.append(_Entry(name, class_color(class_names, label), "block"))
    entries.append(_Entry(f"line to the front: heading; arrow: path in {ARROW_S:g} s", MUTED, ""))
    return entries


def _draw_swatch(
    canvas: Canvas, entry: _Entry, left: int, top: int, width_px: int, height_px: int
) -> None:
    middle = top + height_px / 2
    right = left + width_px - 2.0
    ends = np.array([[left + 2.0, middle], [right, middle]])
    if entry.swatch == "dashed":
        canvas.dashed_line(ends[0], ends[1], entry.color, 2, dash_px=width_px / 4.4)
    elif entry.swatch == "solid":
        canvas.line(ends, entry.color, 2)
    elif entry.swatch == "block":
        half = height_px * 0.24
        corners = [[left + 2, middle - half], [right, middle - half]]
        corners += [[right, middle + half], [left + 2, middle + half]]
        canvas.polygon(np.array(corners), entry.color, 1.0)
