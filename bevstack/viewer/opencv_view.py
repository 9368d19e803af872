"""Drawings as pictures with OpenCV alone: lines and faces through a pinhole, far ones first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.render import Canvas
from bevstack.render.canvas import text_size
from bevstack.render.clipping import NEAR_M, clip_polygon, clip_segments, image_borders
from bevstack.render.colors import BACKGROUND, RGB, WHITE
from bevstack.viewer.label_layout import anchors, box_obstacles, lay_out
from bevstack.viewer.moment import Floats
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.primitives import Drawing, Lines, Points, Solids

_MARGIN_PX = 8.0
_FULL_WIDTH_M = 22.0  # depth up to which lines have their full width
_TEXT_CAP_PX = 10.0
# Corners of the six faces of a box, of the eight in the order x, y, z from low to high.
_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_CORNERS = np.array(
    [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float64
)


class OpenCVRenderer:
    """Renderer of drawings into pictures of one size, without Open3D."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        self.size_px = size_px

    def render(self, drawing: Drawing, pinhole: Pinhole) -> NDArray[np.uint8]:  # (H, W, 3) RGB
        """Return the picture of a drawing: ground lines, points, faces, then box lines."""
        width, height = self.size_px
        canvas = Canvas.filled(height, width, BACKGROUND)
        for points in drawing.points:
            _draw_points(canvas, points, pinhole)
        for lines in drawing.lines:
            if lines.name in ("grid", "rings", "lanes", "road"):
                _draw_lines(canvas, lines, pinhole)
        _draw_faces(canvas, drawing.solids, pinhole)
        for lines in drawing.lines:
            if lines.name not in ("grid", "rings", "lanes", "road"):
                _draw_lines(canvas, lines, pinhole)
        _write_texts(canvas, drawing, pinhole)
        return canvas.pixels


def _draw_lines(canvas: Canvas, lines: Lines, pinhole: Pinhole) -> None:
    placed = pinhole.to_camera(lines.segments_m)
    owner = np.broadcast_to(np.arange(len(placed))[:, None, None], (len(placed), 2, 1))
    tagged = clip_segments(
        np.concatenate((placed, owner), -1), np.array((0.0, 0.0, 1.0, 0.0)), NEAR_M
    )
    pixels = np.concatenate((pinhole.to_pixels(tagged[..., :3]), tagged[..., 2:]), -1)
    for normal, offset in image_borders(canvas.size, _MARGIN_PX):
        pixels = clip_segments(pixels, np.append(normal, (0.0, 0.0)), offset)
    share = np.clip(_FULL_WIDTH_M / pixels[..., 2].mean(1), 0.4, 1.0)  # far lines are thinner
    widths = np.maximum(np.rint(0.8 * lines.width_px * share), 1).astype(int)
    owners = np.rint(pixels[:, 0, 3]).astype(int)
    for segment, row, width in zip(pixels[..., :2], owners, widths.tolist(), strict=True):
        canvas.line(segment, _rgb(lines.color[row]), width)


def _draw_faces(canvas: Canvas, groups: tuple[Solids, ...], pinhole: Pinhole) -> None:
    """Fill the faces of all solids, the farthest first."""
    found: list[tuple[float, Floats, RGB, float]] = []
    for solids in groups:
        cos, sin = np.cos(solids.yaw_rad)[:, None], np.sin(solids.yaw_rad)[:, None]
        local = _CORNERS * solids.size_m[:, None]
        x = cos * local[..., 0] - sin * local[..., 1]
        y = sin * local[..., 0] + cos * local[..., 1]
        corners = np.stack((x, y, local[..., 2]), -1) + solids.center_m[:, None]
        placed = pinhole.to_camera(corners)
        opacity = 1.0 if solids.opacity >= 1 else 0.4 * solids.opacity
        for row in range(len(placed)):
            for number, face in enumerate(_FACES):
                polygon = placed[row, list(face)]
                shade = (0.72, 0.8, 0.76, 0.76, 0.6, 1.0)[number]
                color = _rgb(np.rint(solids.color[row] * shade).astype(np.uint8))
                found.append((float(polygon[:, 2].mean()), polygon, color, opacity))
    for _, polygon, color, opacity in sorted(found, key=lambda item: -item[0]):
        shown = clip_polygon(polygon, np.array((0.0, 0.0, 1.0)), NEAR_M)
        if not len(shown):
            continue
        pixels = pinhole.to_pixels(shown)
        for normal, offset in image_borders(canvas.size, _MARGIN_PX):
            pixels = clip_polygon(pixels, normal, offset)
            if not len(pixels):
                break
        else:
            canvas.polygon(pixels, color, opacity)


def _draw_points(canvas: Canvas, points: Points, pinhole: Pinhole) -> None:
    placed = pinhole.to_camera(points.points_m)
    seen = placed[:, 2] > NEAR_M
    pixels = np.floor(pinhole.to_pixels(placed[seen])).astype(np.int64)
    height, width = canvas.size
    inside = ((pixels >= 0) & (pixels < (width, height))).all(1)
    column, row = pixels[inside].T
    canvas.pixels[row, column] = points.color[seen][inside]


def _write_texts(canvas: Canvas, drawing: Drawing, pinhole: Pinhole) -> None:
    """Write each text beside its place, over no other text and over no box if there is room."""
    sizes = [text_size(text.text, _TEXT_CAP_PX) for text in drawing.texts]
    places = lay_out(
        anchors(np.array([text.place_m for text in drawing.texts]), pinhole),
        [(float(width), float(height)) for height, width in sizes],
        box_obstacles(drawing, pinhole),
        pinhole.size_px,
    )
    for text, place in zip(drawing.texts, places, strict=True):
        if place is not None:
            canvas.text(
                *(text.text, round(place.left), round(place.top), _TEXT_CAP_PX, WHITE),
                plate=BACKGROUND,
                plate_opacity=0.7,
            )


def _rgb(color: NDArray[np.uint8]) -> RGB:
    red, green, blue = (int(channel) for channel in color)
    return red, green, blue
