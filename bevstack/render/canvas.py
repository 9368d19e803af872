"""An RGB picture being drawn, which remembers where its text stands."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.render.colors import RGB

Image = NDArray[np.uint8]  # (H, W, 3) RGB

MIN_CAP_PX = 8.0  # smaller capitals cannot be read
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_CAP_PX = 21.0  # height of a capital of that font at scale 1
_OVERSAMPLING = 4  # text is drawn this much larger and averaged down: smooth at any size
_SHIFT = 4  # fractional bits of the coordinates handed to OpenCV


class Rect(NamedTuple):
    """Pixels of columns [left, right) and rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    def overlaps(self, other: Rect) -> bool:
        """Whether the two share a pixel."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def inside(self, other: Rect) -> bool:
        """Whether this lies wholly within ``other``."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom

    def moved(self, right: int, down: int) -> Rect:
        """The rectangle at another place."""
        return Rect(self.left + right, self.top + down, self.right + right, self.bottom + down)


class Canvas:
    """A picture being drawn: ``pixels`` (H, W, 3) RGB, and ``texts``, where its text stands."""

    def __init__(self, pixels: Image) -> None:
        self.pixels = np.ascontiguousarray(pixels)
        self.texts: list[Rect] = []

    @staticmethod
    def filled(height: int, width: int, color: RGB) -> Canvas:
        """A canvas of one colour."""
        return Canvas(np.full((height, width, 3), color, np.uint8))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.pixels.shape[0], self.pixels.shape[1])

    @property
    def bounds(self) -> Rect:
        """The whole picture."""
        return Rect(0, 0, self.pixels.shape[1], self.pixels.shape[0])

    def is_free(self, rect: Rect) -> bool:
        """Whether a text there would be whole and touch no other text."""
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
        """Writes one line with its box's corner at (left, top), on a plate if one is given.

        Returns:
            The rectangle that the text fills, plate included. The caller chooses a place where
            it is whole.
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
        """Fills a rectangle, clipped to the picture."""
        left, top = max(rect.left, 0), max(rect.top, 0)
        shown = Rect(left, top, max(rect.right, left), max(rect.bottom, top))
        region = self.pixels[shown.top : shown.bottom, shown.left : shown.right]
        alpha = np.full(region.shape[:2], round(255 * opacity), np.uint8)
        self._blend(shown, alpha, color)

    def paste(self, other: Canvas, left: int, top: int) -> None:
        """Puts another canvas onto this one, its texts included."""
        height, width = other.pixels.shape[:2]
        self.pixels[top : top + height, left : left + width] = other.pixels
        self.texts.extend(rect.moved(left, top) for rect in other.texts)

    def line(
        self,
        points: NDArray[np.float64],  # (P, 2) continuous pixel coordinates
        color: RGB,
        thickness_px: int,
    ) -> None:
        """Draws a smooth line through points near the picture (coordinates become 32-bit)."""
        corners = [_fixed_point(points)]
        cv2.polylines(self.pixels, corners, False, color, thickness_px, cv2.LINE_AA, _SHIFT)

    def dashed_line(
        self,
        start: NDArray[np.float64],  # (2,)
        end: NDArray[np.float64],  # (2,)
        color: RGB,
        thickness_px: int,
        *,
        dash_px: float,
    ) -> None:
        """Draws a line of dashes that begins and ends with one; gaps are as long as 0.7 dashes."""
        length = float(np.linalg.norm(end - start))
        gaps = max(round((length - dash_px) / (1.7 * dash_px)), 1 if length > 2.5 * dash_px else 0)
        dash = length / (1 + 1.7 * gaps)
        direction = (end - start) / max(length, 1e-9)
        for index in range(gaps + 1):
            near = start + direction * (1.7 * dash * index)
            points = np.stack((near, near + direction * dash))
            self.line(points, color, thickness_px)

    def polygon(
        self,
        points: NDArray[np.float64],  # (P, 2)
        color: RGB,
        opacity: float,
    ) -> None:
        """Fills a convex polygon."""
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

    def circle(self, center: tuple[float, float], radius: float, color: RGB) -> None:
        """Draws a smooth thin circle around continuous pixel coordinates."""
        middle = _fixed_point(np.array([center]))[0]
        radius_fixed = round(radius * (1 << _SHIFT))
        place = (int(middle[0]), int(middle[1]))
        cv2.circle(self.pixels, place, radius_fixed, color, 1, cv2.LINE_AA, _SHIFT)

    def _blend(self, rect: Rect, alpha: Image, color: RGB) -> None:
        region = self.pixels[rect.top : rect.bottom, rect.left : rect.right]
        weight = alpha[: region.shape[0], : region.shape[1], None].astype(np.float32) / 255
        mixed = region * (1 - weight) + np.asarray(color, np.float32) * weight
        region[:] = np.rint(mixed).astype(np.uint8)


def text_size(string: str, cap_px: float) -> tuple[int, int]:
    """Height and width in pixels of one line of text with capitals ``cap_px`` high."""
    (width, _), _ = cv2.getTextSize(_printable(string), _FONT, _scale(cap_px), _stroke(cap_px))
    return math.ceil(2 * cap_px), -(-width // _OVERSAMPLING) + 2 * _margin(cap_px)


def fit_text(string: str, cap_px: float, max_width_px: int) -> str:
    """The string, or as much of it as fits followed by two dots; empty where nothing fits."""
    if text_size(string, cap_px)[1] <= max_width_px:
        return string
    for length in range(len(string) - 1, 0, -1):
        shortened = string[:length].rstrip() + ".."
        if text_size(shortened, cap_px)[1] <= max_width_px:
            return shortened
    return ""


def _text_mask(string: str, cap_px: float) -> Image:  # (H, W)
    height, width = text_size(string, cap_px)
    large = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING), np.uint8)
    # Capitals a little above the middle: tails reach 0.4 of their height below the line.
    baseline = (0.5 * height + 0.41 * cap_px) * _OVERSAMPLING
    origin = (_margin(cap_px) * _OVERSAMPLING, round(baseline))
    cv2.putText(
        large,
        _printable(string),
        origin,
        _FONT,
        _scale(cap_px),
        (255,),
        _stroke(cap_px),
        cv2.LINE_AA,
    )
    return np.asarray(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _scale(cap_px: float) -> float:
    return cap_px * _OVERSAMPLING / _FONT_CAP_PX


def _stroke(cap_px: float) -> int:
    return max(round(0.13 * cap_px * _OVERSAMPLING), 1)


def _margin(cap_px: float) -> int:
    return max(round(0.4 * cap_px), 2)


def _printable(string: str) -> str:
    """OpenCV's own font holds ASCII; any other character is shown as a question mark."""
    return "".join(c if " " <= c <= "~" else "?" for c in string)


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """Continuous coordinates (pixel centres at .5) to OpenCV's (pixel centres at integers)."""
    fixed: NDArray[np.int32] = np.rint((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
    return fixed
