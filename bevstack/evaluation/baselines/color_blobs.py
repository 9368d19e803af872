"""A detector of traffic lights without learning: saturated blobs of red, yellow and green.

Every detector of lights must be better than it. Pixels of a lamp are bright and saturated, and
their hue is that of a signal. Connected pixels of one colour make a blob, whose box is the lamp's.
A light is high in a picture taken from a street, so the score is saturation x brightness x height
in the image. It knows no arrows, and a housing's box is guessed from that of the lamp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.types.labelled_images import LabelledImage
from bevstack.types.traffic import LAMP, Lamp, TrafficElement, attribute_of_lamps
from bevstack.vocabulary import TRAFFIC_LIGHT

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels


@dataclass(frozen=True, kw_only=True)
class BlobRule:
    """Thresholds of the rule; hues are in OpenCV's half degrees, 0..179."""

    red_below: int = 8
    red_above: int = 165
    yellow: tuple[int, int] = (14, 34)
    green: tuple[int, int] = (60, 98)
    min_saturation: int = 110  # of 255
    min_value: int = 120  # of 255
    min_area_px: int = 9
    max_area_share: float = 0.01  # of the image
    max_aspect: float = 2.5  # of the longer to the shorter side of a blob
    min_fill: float = 0.35  # of the blob's box
    max_boxes: int = 100  # of an image
    grow: float = 0.15  # of a side, at each end: the rim of a lamp is dark


# Box of a vertical housing of three lamps in sizes of the lamp: width, height, and the lamp's place
# from above in the order of colours.
_HOUSING = (1.4, 3.6)
_PLACES = {"red": 0.2, "yellow": 0.5, "green": 0.8}


def find_color_blobs(
    pixels: NDArray[np.uint8],  # (H, W, 3) RGB
    *,
    path: str,
    box_convention: str = LAMP,
    rule: BlobRule | None = None,
) -> LabelledImage:
    """Return the blobs of an image as lights with scores, best first.

    Args:
        pixels: the image.
        path: its name in the result.
        box_convention: what the boxes are to surround.
        rule: the thresholds; None takes the usual ones.
    """
    rule = BlobRule() if rule is None else rule
    height, width = pixels.shape[:2]
    hue, saturation, value = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
    lit = (saturation >= rule.min_saturation) & (value >= rule.min_value)
    masks = {
        "red": lit & ((hue <= rule.red_below) | (hue >= rule.red_above)),
        "yellow": lit & (hue >= rule.yellow[0]) & (hue <= rule.yellow[1]),
        "green": lit & (hue >= rule.green[0]) & (hue <= rule.green[1]),
    }
    strength = np.float32(255**-2) * saturation.astype(np.float32) * value.astype(np.float32)
    found = [
        (score, color, _box(blob, color=color, convention=box_convention, grow=rule.grow))
        for color, mask in masks.items()
        for score, blob in _blobs(mask, strength, rule)
    ]
    found.sort(key=lambda item: -item[0])  # stable: red before yellow before green, then by place
    found = found[: rule.max_boxes]
    elements = tuple(
        _element(index, color, box, path=path, size=(height, width), convention=box_convention)
        for index, (_, color, box) in enumerate(found)
    )
    scores = tuple(score for score, _, _ in found)
    return LabelledImage(path=path, size=(height, width), elements=elements, scores=scores)


def _blobs(
    mask: NDArray[np.bool_],  # (H, W)
    strength: NDArray[np.float32],  # (H, W) saturation times brightness, 0..1
    rule: BlobRule,
) -> Iterator[tuple[float, Box]]:
    """Yield (score, box) of the blobs of one colour that have the size and shape of a lamp."""
    height, width = mask.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    sums = np.bincount(labels[mask], strength[mask], minlength=count)
    for index in range(1, count):
        left, top, w, h, area = (int(part) for part in stats[index])
        if (
            rule.min_area_px <= area <= rule.max_area_share * height * width
            and max(w, h) <= rule.max_aspect * min(w, h)
            and area >= rule.min_fill * w * h
        ):
            score = float(sums[index]) / area * (1 - (top + h / 2) / height)
            yield score, (left, top, left + w, top + h)


def _element(
    index: int, color: str, box: Box, *, path: str, size: tuple[int, int], convention: str
) -> TrafficElement:
    height, width = size
    left, top, right, bottom = box
    lamps = (Lamp(color, "unknown"),)
    return TrafficElement(
        token=str(index),
        category=TRAFFIC_LIGHT,
        attribute=attribute_of_lamps(lamps),
        box_px=(max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)),
        sample_data_token=path,
        lamps=lamps,
        box_convention=convention,
        source="color_blobs",
    )


def _box(blob: Box, *, color: str, convention: str, grow: float) -> Box:
    """Return the box of a lamp or housing around a blob."""
    left, top, right, bottom = blob
    width, height = right - left, bottom - top
    if convention == LAMP:
        x, y = grow * width, grow * height
        return left - x, top - y, right + x, bottom + y
    side = max(width, height) * (1 + 2 * grow)
    w, h = _HOUSING[0] * side, _HOUSING[1] * side
    x, y = (left + right - w) / 2, (top + bottom) / 2 - _PLACES[color] * h
    return x, y, x + w, y + h
