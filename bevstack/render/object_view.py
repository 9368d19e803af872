"""Pictures of objects in single pictures: boxes with names, masks translucent with outlines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Canvas, Image
from bevstack.render.colors import RGB
from bevstack.render.labels import Label, LabelPlacer

OPACITY = 0.45  # of a mask
_CAP_PX = 9.0  # height of capitals


class DrawnObject(NamedTuple):
    """An object as it is drawn."""

    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels
    text: str
    color: RGB
    mask: NDArray[np.uint8] | None = None  # (H, W) of 0 and 1; None: the box alone


def draw_objects(
    image: Image,  # (H, W, 3) RGB
    objects: Iterable[DrawnObject],
) -> Image:  # (H, W, 3)
    """Draw objects over an image; later ones cover earlier ones.

    Raises:
        ValueError: a mask has another size than the image.
    """
    listed = list(objects)
    pixels = image.copy()
    for own in listed:
        if own.mask is not None:
            _draw_mask(pixels, own.mask, own.color)
    canvas = Canvas(pixels)
    placer = LabelPlacer(canvas, _CAP_PX)
    outlines = [_corners(own) for own in listed]
    for own, outline in zip(listed, outlines, strict=True):
        canvas.line(np.concatenate([outline, outline[:1]]), own.color, 1)
    for own, outline in zip(listed, outlines, strict=True):
        placer.write_above(Label(own.text, own.color, outline))
    return canvas.pixels


def _draw_mask(pixels: Image, mask: NDArray[np.uint8], color: RGB) -> None:
    """Blend a mask into the pixels and draw its outline, in place."""
    if mask.shape != pixels.shape[:2]:
        raise ValueError(f"mask must be {pixels.shape[:2]} like the image; got {mask.shape}")
    inside = mask > 0
    blended = (1 - OPACITY) * pixels[inside] + OPACITY * np.array(color, np.float32)
    pixels[inside] = blended.round().astype(np.uint8)
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(pixels, contours, -1, color, 1)


def _corners(own: DrawnObject) -> NDArray[np.float64]:  # (4, 2)
    left, top, right, bottom = own.box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
