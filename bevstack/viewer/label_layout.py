"""Layout of texts in a view: each beside its place, over no other text and, if possible, no box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bevstack.render.clipping import NEAR_M, clip_segments
from bevstack.viewer.moment import Flags, Floats
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.primitives import Drawing

# Sides of a place where its text may stand, the best first: name, share of the text's width to the
# left of the place, and share of its height above the place.
_SIDES = (
    ("bottom-center", 0.5, 1.0),
    ("bottom-left", 0.0, 1.0),
    ("bottom-right", 1.0, 1.0),
    ("center-left", -0.05, 0.5),
    ("center-right", 1.05, 0.5),
    ("top-left", 0.0, 0.0),
    ("top-right", 1.0, 0.0),
)
_GAP_PX = 3.0  # between a text and a box
_BOXES = ("predicted_", "true", "picked", "arrows_")  # beginnings of the names of their lines


class Place(NamedTuple):
    """Place of a text in a picture: the side of its anchor, and its rectangle in pixels."""

    anchor: str  # "bottom-left": the anchor is the lower left corner of the text
    left: float
    top: float
    right: float
    bottom: float


def lay_out(
    anchors_px: Floats,  # (T, 2) NaN: out of view
    sizes_px: Sequence[tuple[float, float]],  # T widths and heights
    obstacles_px: Floats,  # (R, 4) left, top, right, bottom
    frame_px: tuple[int, int],  # width and height of the picture
) -> list[Place | None]:
    """Return a place for each text, the first ones first; None where there is no room.

    A text is inside the picture and over no other text. Of the sides of its place with room for it,
    it has that with fewest obstacles, which are none if it can be.
    """
    placed: list[Place | None] = []
    for (x, y), (width, height) in zip(anchors_px.tolist(), sizes_px, strict=True):
        taken = np.array([place[1:] for place in placed if place is not None])
        sides = [
            Place(name, x - left * width, y - top * height, 0.0, 0.0) for name, left, top in _SIDES
        ]
        places = [p._replace(right=p.left + width, bottom=p.top + height) for p in sides]
        free = [
            p
            for p in places
            if _is_inside(p, frame_px) and not _overlaps(p, np.array(taken), 0.0).any()
        ]
        covered = [_overlaps(p, obstacles_px, _GAP_PX).sum() for p in free]
        placed.append(free[int(np.argmin(covered))] if free else None)
    return placed


def box_obstacles(drawing: Drawing, pinhole: Pinhole) -> Floats:  # (R, 4)
    """Return the rectangles around the lines of boxes in a view, in pixels."""
    groups = [g.segments_m for g in drawing.lines if g.name.startswith(_BOXES)]
    if not groups:
        return np.zeros((0, 4))
    placed = pinhole.to_camera(np.concatenate(groups))
    pixels = pinhole.to_pixels(clip_segments(placed, np.array((0.0, 0.0, 1.0)), NEAR_M))
    return np.concatenate((pixels.min(1), pixels.max(1)), -1)


def anchors(places_m: Floats, pinhole: Pinhole) -> Floats:  # (T, 3) -> (T, 2)
    """Return the pixels of places in the ego frame; NaN behind the camera."""
    placed = pinhole.to_camera(places_m.reshape(-1, 3))
    seen = placed[:, 2] > NEAR_M
    pixels = np.full((len(placed), 2), np.nan)
    pixels[seen] = pinhole.to_pixels(placed[seen])
    return pixels


def _is_inside(place: Place, frame_px: tuple[int, int]) -> bool:
    width, height = frame_px
    across = place.left >= 0 and place.right <= width
    return across and place.top >= 0 and place.bottom <= height  # false for NaN


def _overlaps(place: Place, rectangles_px: Floats, gap_px: float) -> Flags:  # (R, 4) -> (R,)
    left, top, right, bottom = rectangles_px.reshape(-1, 4).T
    across = (place.left - gap_px < right) & (left < place.right + gap_px)
    found: Flags = across & (place.top - gap_px < bottom) & (top < place.bottom + gap_px)
    return found
