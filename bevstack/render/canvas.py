"""Canvas for RGB pictures that records the rectangles of its texts."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as pillow
from PIL import ImageDraw, ImageFont

from bevstack.render.colors import RGB

Image = NDArray[np.uint8]  # (H, W, 3) RGB

MIN_CAP_PX = 7.0  # smaller capitals are illegible
_CAP_HEIGHT = 0.7  # of a capital of the font, relative to its size
_SPACE = 0.5  # between words, relative to the height of capitals
_MISSING = "\uffff"  # a character that no font has: it is drawn as the font's empty box
_SHIFT = 4  # fractional bits of the coordinates given to OpenCV


class Rect(NamedTuple):
    """Rectangle of the pixels in columns [left, right) and rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return self.bottom - self.top

    def overlaps(self, other: Rect) -> bool:
        """Return True if the two rectangles share a pixel."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def inside(self, other: Rect) -> bool:
        """Return True if this rectangle is completely within ``other``."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom

    def moved(self, right: int, down: int) -> Rect:
        """Return the rectangle shifted by a number of columns and rows."""
        return Rect(self.left + right, self.top + down, self.right + right, self.bottom + down)


class Canvas:
    """Picture to draw on: ``pixels`` (H, W, 3) RGB, and ``texts``, the rectangles of its texts."""

    def __init__(self, pixels: Image) -> None:
        self.pixels = np.ascontiguousarray(pixels)
        self.texts: list[Rect] = []

    @staticmethod
    def filled(height: int, width: int, color: RGB) -> Canvas:
        """Return a canvas of one colour."""
        return Canvas(np.full((height, width, 3), color, np.uint8))

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width in pixels."""
        return (self.pixels.shape[0], self.pixels.shape[1])

    @property
    def bounds(self) -> Rect:
        """Return the rectangle of the whole picture."""
        return Rect(0, 0, self.pixels.shape[1], self.pixels.shape[0])

    def is_free(self, rect: Rect) -> bool:
        """Return True if a text in this rectangle is within the picture and meets no other text."""
        return rect.inside(self.bounds) and not any(rect.overlaps(text) for text in self.texts)

    def text(
        self,
        string: str,
        left: int,
        top: int,
        cap_px: float,
        color: RGB,
        *,
        plate: RGB | None = None,
        plate_opacity: float = 1.0,
    ) -> Rect:
        """Write one line of text with its top left corner at (left, top).

        Args:
            string: One line of text; a character that the font lacks is shown as a question mark.
            left: First column of the text's rectangle.
            top: First row of the text's rectangle.
            cap_px: Height of capitals in pixels.
            color: Colour of the text.
            plate: Colour of a rectangle behind the text; None for no rectangle.
            plate_opacity: Opacity of that rectangle, 0 to 1.

        Returns:
            The rectangle that the text fills. The part outside the picture is not drawn, so the
            caller chooses a rectangle inside it.
        """
        alpha = _text_mask(string, cap_px)
        rect = Rect(left, top, left + alpha.shape[1], top + alpha.shape[0])
        if plate is not None:
            self.fill(rect, plate, plate_opacity)
        shown = Rect(
            max(rect.left, 0),
            max(rect.top, 0),
            min(rect.right, self.bounds.right),
            min(rect.bottom, self.bounds.bottom),
        )
        if shown.width > 0 and shown.height > 0:
            part = alpha[shown.top - top : shown.bottom - top, shown.left - left :]
            self._blend(shown, part[:, : shown.width], color)
        self.texts.append(rect)
        return rect

    def fill(self, rect: Rect, color: RGB, opacity: float = 1.0) -> None:
        """Fill a rectangle, clipped to the picture."""
        left, top = max(rect.left, 0), max(rect.top, 0)
        shown = Rect(left, top, max(rect.right, left), max(rect.bottom, top))
        region = self.pixels[shown.top : shown.bottom, shown.left : shown.right]
        alpha = np.full(region.shape[:2], round(255 * opacity), np.uint8)
        self._blend(shown, alpha, color)

    def paste(self, other: Canvas, left: int, top: int) -> None:
        """Paste another canvas onto this one, including its recorded texts."""
        height, width = other.pixels.shape[:2]
        self.pixels[top : top + height, left : left + width] = other.pixels
        self.texts.extend(rect.moved(left, top) for rect in other.texts)

    def line(
        self,
        points: NDArray[np.float64],  # (P, 2) continuous pixel coordinates
        color: RGB,
        thickness_px: int,
    ) -> None:
        """Draw an antialiased line through points.

        The points must be near the picture: coordinates become 32-bit fixed-point numbers.
        """
        corners = [_fixed_point(points)]
        cv2.polylines(self.pixels, corners, False, color, thickness_px, cv2.LINE_AA, _SHIFT)

    def polygon(
        self,
        points: NDArray[np.float64],  # (P, 2)
        color: RGB,
        opacity: float,
    ) -> None:
        """Fill a convex polygon; do nothing for fewer than three points."""
        if len(points) < 3:
            return
        low = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
        high = np.maximum(np.ceil(points.max(0)).astype(int) + 2, 0)
        region = self.pixels[low[1] : high[1], low[0] : high[0]]
        if region.size == 0:
            return
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, _fixed_point(points - low), (255,), cv2.LINE_AA, _SHIFT)
        shown = Rect(low[0], low[1], low[0] + region.shape[1], low[1] + region.shape[0])
        self._blend(shown, (mask * opacity).astype(np.uint8), color)

    def area(
        self,
        outlines: Sequence[NDArray[np.float64]],  # (P, 2) each
        color: RGB,
    ) -> None:
        """Fill the area between outlines by the even-odd rule, so that holes stay empty."""
        rings = [_fixed_point(outline) for outline in outlines if len(outline) >= 3]
        if rings:
            cv2.fillPoly(self.pixels, rings, color, cv2.LINE_AA, _SHIFT)

    def circle(self, center: tuple[float, float], radius: float, color: RGB) -> None:
        """Draw an antialiased circle one pixel thick; centre and radius are continuous pixels."""
        self._circle(center, radius, color, 1)

    def disc(self, center: tuple[float, float], radius: float, color: RGB) -> None:
        """Fill a circle; centre and radius are continuous pixels."""
        self._circle(center, radius, color, cv2.FILLED)

    def _circle(
        self, center: tuple[float, float], radius: float, color: RGB, thickness: int
    ) -> None:
        column, row = _fixed_point(np.array([center]))[0].tolist()
        radius_fixed = round(radius * (1 << _SHIFT))
        cv2.circle(self.pixels, (column, row), radius_fixed, color, thickness, cv2.LINE_AA, _SHIFT)

    def _blend(self, rect: Rect, alpha: Image, color: RGB) -> None:
        region = self.pixels[rect.top : rect.bottom, rect.left : rect.right]
        weight = alpha[: region.shape[0], : region.shape[1], None].astype(np.float32) / 255
        mixed = region * (1 - weight) + np.asarray(color, np.float32) * weight
        region[:] = np.rint(mixed).astype(np.uint8)


def text_size(string: str, cap_px: float) -> tuple[int, int]:
    """Return height and width in pixels of one line of text with capitals ``cap_px`` high."""
    width, _ = _place_words(string, cap_px)
    return math.ceil(2 * cap_px), math.ceil(width) + 2 * _margin(cap_px)


def fit_text(string: str, cap_px: float, max_width_px: int) -> str:
    """Return the string, shortened and ended with two dots if it is too wide.

    Return an empty string if not even one character fits.
    """
    if text_size(string, cap_px)[1] <= max_width_px:
        return string
    for length in range(len(string) - 1, 0, -1):
        shortened = string[:length].rstrip() + ".."
        if text_size(shortened, cap_px)[1] <= max_width_px:
            return shortened
    return ""


def _text_mask(string: str, cap_px: float) -> Image:  # (H, W)
    height, width = text_size(string, cap_px)
    mask = pillow.new("L", (width, height))
    drawing = ImageDraw.Draw(mask)
    # Capitals stand a little above the middle: descenders reach 0.3 cap heights below the baseline.
    baseline = round(0.5 * height + 0.43 * cap_px)
    for word, left in _place_words(string, cap_px)[1]:
        origin = (_margin(cap_px) + left, baseline)
        drawing.text(origin, word, fill=255, font=_font(cap_px), anchor="ls")
    return np.asarray(mask)


def _place_words(string: str, cap_px: float) -> tuple[float, list[tuple[str, float]]]:
    """Return the width of a text, and its words with their distances from its left end.

    The font's own space is too narrow for small text.
    """
    font, placed, left = _font(cap_px), [], 0.0
    for word in _printable(string).split(" "):
        placed.append((word, left))
        left += math.ceil(font.getlength(word)) + _SPACE * cap_px
    return left - _SPACE * cap_px, placed


@functools.cache
def _font(cap_px: float) -> ImageFont.FreeTypeFont:
    """Return the TrueType font that is part of Pillow, Aileron, in the size of the capitals."""
    font = ImageFont.load_default(cap_px / _CAP_HEIGHT)
    assert isinstance(font, ImageFont.FreeTypeFont)  # so it is for every size given
    return font


def _margin(cap_px: float) -> int:
    return max(round(0.4 * cap_px), 2)


def _printable(string: str) -> str:
    """Replace characters that the font lacks by question marks."""
    return "".join(character if _is_known(character) else "?" for character in string)


@functools.cache
def _is_known(character: str) -> bool:
    font = _font(20.0)
    drawn, missing = font.getmask(character), font.getmask(_MISSING)
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Convert continuous coordinates (pixel centres at .5) to OpenCV's (centres at integers)."""
    fixed: NDArray[np.int32] = np.rint((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
    return fixed
