"""Placement of labels beside the drawn objects, so that none covers an object or a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Canvas, Rect, text_size
from bevstack.render.colors import BLACK, RGB, text_color

PLATE_OPACITY = 0.6
_MAX_LEVELS = 9  # labels are stacked at most this number of lines above a box


class Label(NamedTuple):
    """Text to write beside an object."""

    text: str
    color: RGB
    outline: NDArray[np.float64]  # (P, 2) pixels, corners of the drawn object
    # draws an icon before the text, from its centre in continuous pixels and its radius
    icon: Callable[[Canvas, tuple[float, float], float], None] | None = None


class LabelPlacer:
    """Places for labels on a canvas with drawn objects.

    Args:
        canvas: the canvas to write on.
        cap_px: height of capitals.
    """

    def __init__(self, canvas: Canvas, cap_px: float) -> None:
        self._canvas = canvas
        self._cap_px = cap_px
        self._occupied = np.zeros(canvas.size, np.uint8)
        self._leaders: list[Rect] = []

    def occupy(
        self,
        outline: NDArray[np.float64],  # (P, 2) pixels
    ) -> None:
        """Keep the convex hull of an object free of labels."""
        hull = cv2.convexHull(np.rint(outline).astype(np.int32))
        cv2.fillConvexPoly(self._occupied, hull, (1,))

    def write_above(self, label: Label) -> bool:
        """Write a label above an object, or below it if there is no free place above.

        A label that is not directly above gets a thin vertical line to its object. Return False
        if there is no free place.
        """
        height, width = self._size(label)
        bounds = bounding_rect(label.outline, self._canvas.bounds)
        middle = (bounds.left + bounds.right) // 2
        for rect in _places_above(bounds, height, width):
            shown = rect.moved(_shift_inside(rect, self._canvas.bounds), 0)
            line = Rect(middle, shown.bottom, middle + 1, max(bounds.top, shown.bottom))
            has_line = line.height > height // 2
            if not self._is_free(shown) or (has_line and not self._is_clear(line, shown)):
                continue
            if has_line:
                ends = np.array([[middle + 0.5, line.top], [middle + 0.5, line.bottom]])
                self._canvas.line(ends, label.color, 1)
                self._leaders.append(line)
            self._write(label, shown)
            return True
        return False

    def write_beside(self, label: Label) -> bool:
        """Write a label at a side of an object; return False if there is no free place."""
        height, width = self._size(label)
        bounds = bounding_rect(label.outline, self._canvas.bounds)
        for rect in _places_beside(bounds, height, width):
            if self._is_free(rect):
                self._write(label, rect, opacity=0.0)
                return True
        return False

    def _size(self, label: Label) -> tuple[int, int]:
        """Return height and width of a label; an icon is as wide as the text is high."""
        height, width = text_size(label.text, self._cap_px)
        return height, width + (height if label.icon is not None else 0)

    def _write(self, label: Label, rect: Rect, opacity: float = PLATE_OPACITY) -> None:
        plate = BLACK if opacity else None
        left = rect.left
        if label.icon is not None:
            icon = Rect(rect.left, rect.top, rect.left + rect.height, rect.bottom)
            if plate is not None:
                self._canvas.fill(icon, plate, opacity)
            center = (icon.left + icon.width / 2, icon.top + icon.height / 2)
            label.icon(self._canvas, center, 0.42 * icon.height)
            self._canvas.texts.append(icon)
            left = icon.right
        self._canvas.text(
            label.text,
            left,
            rect.top,
            self._cap_px,
            text_color(label.color),
            plate=plate,
            plate_opacity=opacity,
        )

    def _is_free(self, rect: Rect) -> bool:
        if not self._canvas.is_free(rect) or any(rect.overlaps(line) for line in self._leaders):
            return False
        return not self._occupied[rect.top : rect.bottom, rect.left : rect.right].any()

    def _is_clear(self, line: Rect, label: Rect) -> bool:
        """Return True if a line crosses no text and starts below its own label."""
        below = label.left <= line.left < label.right
        return below and not any(line.overlaps(text) for text in self._canvas.texts)


def bounding_rect(
    outline: NDArray[np.float64],  # (P, 2) pixels
    bounds: Rect,
) -> Rect:
    """Return the rectangle around the part of an object inside the picture."""
    points = np.clip(outline.reshape(-1, 2), 0, (bounds.right, bounds.bottom))
    (left, top), (right, bottom) = np.floor(points.min(0)), np.ceil(points.max(0))
    return Rect(int(left), int(top), int(right), int(bottom))


def _shift_inside(rect: Rect, bounds: Rect) -> int:
    """Return the columns by which a rectangle must move to lie between the picture's sides."""
    return max(-rect.left, 0) or min(bounds.right - rect.right, 0)


def _places_above(box: Rect, height: int, width: int) -> Iterable[Rect]:
    """Yield places for a label, best first: above a box, ever higher, then below it."""
    middle = (box.left + box.right) // 2
    lefts = (middle - width // 2, box.left, box.right - width)
    for level in range(_MAX_LEVELS):
        bottom = box.top - 1 - level * height
        for left in lefts:
            yield Rect(left, bottom - height, left + width, bottom)
    for left in lefts:
        yield Rect(left, box.bottom + 1, left + width, box.bottom + 1 + height)


def _places_beside(box: Rect, height: int, width: int) -> Iterable[Rect]:
    """Yield places for a label, best first: right, left, above, below, and at the corners."""
    middle, center = (box.left + box.right - width) // 2, (box.top + box.bottom - height) // 2
    right, left = box.right + 1, box.left - 1 - width
    above, below = box.top - 1 - height, box.bottom + 1
    for x, y in (
        (right, center),
        (left, center),
        (middle, above),
        (middle, below),
        (right, above),
        (left, above),
        (right, below),
        (left, below),
    ):
        yield Rect(x, y, x + width, y + height)
