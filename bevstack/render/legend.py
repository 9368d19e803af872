"""Legend of a sheet, which explains colours and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bevstack.render.arrows import ARROW_S
from bevstack.render.canvas import Canvas, fit_text, text_size
from bevstack.render.colors import (
    BACKGROUND,
    LANE,
    MUTED,
    RGB,
    ROAD,
    SHADOW,
    TRAIL,
    WHITE,
    class_color,
)
from bevstack.render.element_marks import TrafficLayer
from bevstack.render.layers import BoxLayer
from bevstack.render.surroundings import Surroundings

# Up to this number of classes, list all of them, so that sheets of one rig are equal in size.
# Of a longer list, list the classes drawn.
_MAX_LISTED = 12


@dataclass(frozen=True)
class _Entry:
    text: str
    color: RGB
    swatch: str  # "line", "block", "frame", "corners", or "" for text alone


def draw_legend(
    layers: Sequence[BoxLayer],
    class_names: tuple[str, ...],
    width_px: int,
    cap_px: float,
    surroundings: Surroundings | None = None,
    traffic: TrafficLayer | None = None,
) -> Canvas | None:
    """Draw the legend in as many rows as it needs; return None if there is no layer."""
    if not layers:
        return None
    line_px = text_size("x", cap_px)[0]
    swatch_px = round(2.2 * cap_px)
    gap_px = round(1.2 * cap_px)
    placed, left, row = [], 0, 0
    entries = _entries(layers, class_names) + _ground_entries(surroundings or Surroundings())
    entries += [] if traffic is None else _traffic_entries(traffic)
    for entry in entries:
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
    labels: Sequence[int] = range(len(class_names))
    if len(class_names) > _MAX_LISTED:
        labels = sorted({int(label) for layer in layers for label in layer.labels})
    entries = []
    for label in labels:
        name = class_names[label].replace("_", " ")
        entries.append(_Entry(name, class_color(class_names, label), "block"))
    if any(layer.style.ground_only for layer in layers):
        entries.append(_Entry("true box, on the ground of images", WHITE, "frame"))
        entries.append(_Entry("true box beside predicted ones", SHADOW, "block"))
    entries.append(_Entry(f"line to the front: heading; arrow: path in {ARROW_S:g} s", MUTED, ""))
    if any(layer.identities is not None for layer in layers):
        entries.append(_Entry("number: track", MUTED, ""))
    return entries


def _ground_entries(surroundings: Surroundings) -> list[_Entry]:
    entries = []
    if surroundings.trail is not None:
        entries.append(_Entry("path driven", TRAIL, "line"))
    if surroundings.drivable:
        entries.append(_Entry("drivable area", ROAD, "block"))
    if surroundings.lanes:
        entries.append(_Entry("lanes", LANE, "line"))
    return entries


def _traffic_entries(traffic: TrafficLayer) -> list[_Entry]:
    entries = [_Entry("light or sign; thick frame or ring: for the own lane", WHITE, "frame")]
    if traffic.predicted is not None:
        entries.append(_Entry("corners: true light or sign", WHITE, "corners"))
    return entries


def _draw_swatch(
    canvas: Canvas, entry: _Entry, left: int, top: int, width_px: int, height_px: int
) -> None:
    middle = top + height_px / 2
    right = left + width_px - 2.0
    half = height_px * 0.24
    corners = np.array(
        [
            [left + 2.0, middle - half],
            [right, middle - half],
            [right, middle + half],
            [left + 2.0, middle + half],
        ]
    )
    if entry.swatch == "line":
        canvas.line(np.array([[left + 2.0, middle], [right, middle]]), entry.color, 2)
    elif entry.swatch == "frame":
        canvas.line(np.concatenate((corners, corners[:1])), entry.color, 1)
    elif entry.swatch == "corners":
        for index in range(4):
            ends = [
                corners[index] + 0.3 * (corners[k % 4] - corners[index])
                for k in (index - 1, index + 1)
            ]
            canvas.line(np.stack((ends[0], corners[index], ends[1])), entry.color, 1)
    elif entry.swatch == "block":
        canvas.polygon(corners, entry.color, 1.0)
