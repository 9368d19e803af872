"""Drawing of 3D boxes on a camera image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.render.arrows import arrow_tip
from bevstack.render.canvas import MIN_CAP_PX, Canvas, Image, Rect, fit_text, text_size
from bevstack.render.clipping import (
    EDGES,
    FRONT_FACE,
    NEAR_M,
    to_camera,
    to_pixels,
    visible_polygon,
    visible_segments,
)
from bevstack.render.colors import BLACK, MUTED, PANEL, RGB, WHITE
from bevstack.render.element_marks import ElementMark
from bevstack.render.element_view import draw_elements, label_elements, occupy_elements
from bevstack.render.labels import Label, LabelPlacer, bounding_rect
from bevstack.render.layers import BoxLayer, as_array

_MARGIN_PX = 8.0  # lines are cut this far outside the image, so that their ends do not show
_MIN_ARROW_PX = 3.0  # a shorter arrow would be a dot and is not drawn
_MIN_LABELLED = 1.2  # a box lower than this number of capitals gets no label
_GROUND = slice(0, 4)  # edges of the bottom face in ``EDGES``


@dataclass(frozen=True)
class _Item:
    """One box in the view of one camera."""

    layer: BoxLayer
    index: int
    corners_cam: NDArray[np.float64]  # (8, 3)
    depth_m: float  # of the centre
    edges: NDArray[np.float64]  # (E, 2, 2) visible parts, pixels
    arrow_cam: NDArray[np.float64] | None  # (2, 3) of the velocity, from start to tip


def draw_camera(
    image: Image,  # (H, W, 3) RGB
    intrinsics: NDArray[np.float64],  # (3, 3) pixels of this image
    cam_from_bev: NDArray[np.float64],  # (4, 4)
    layers: Sequence[BoxLayer],
    class_names: tuple[str, ...],
    *,
    name: str = "",
    elements: Sequence[ElementMark] = (),  # with boxes in pixels of this image
    true_elements: Sequence[ElementMark] = (),  # to compare with: corners without labels
) -> Canvas:
    """Draw boxes on a camera image, far ones first, and lights and signs over them.

    Each box shows its twelve edges, a tinted front face, and a line on the ground from its centre
    to its front; of a style that is ``ground_only``, the outline on the ground and that line. If
    the style has arrows, a moving box gets one on the ground, from its front to the front's
    position after ``arrows.ARROW_S``. Boxes are cut at a plane in front of the camera; a box behind
    that plane is not drawn.
    Labels are placed in the order of score, then of depth, and cover no box, light or sign. Those
    of lights and signs come first. A label without free space is left out.

    Raises:
        ValueError: A label has no class name.
    """
    canvas = Canvas(image.copy())
    cap_px = text_height(image.shape[1])
    if name:
        _write_name(canvas, name, cap_px)
    items = [
        item
        for layer in layers
        for item in _visible_items(layer, intrinsics, cam_from_bev, canvas.size)
    ]
    for item in sorted(items, key=lambda item: -item.depth_m):
        _draw_box(canvas, item, intrinsics, class_names)
    draw_elements(canvas, elements, true_elements)
    placer = LabelPlacer(canvas, cap_px)
    for item in items:
        placer.occupy(item.edges.reshape(-1, 2))
    occupy_elements(placer, canvas, (*elements, *true_elements))
    label_elements(placer, canvas, elements)
    _label_boxes(placer, canvas, sorted(items, key=_label_order), class_names, cap_px)
    return canvas


def draw_lost_camera(size: tuple[int, int], name: str) -> Canvas:
    """Draw a dark tile in place of a camera without an image."""
    height, width = size
    canvas = Canvas.filled(height, width, PANEL)
    cap_px = text_height(width)
    if name:
        _write_name(canvas, name, cap_px)
    string = fit_text("camera lost", 1.3 * cap_px, width)
    text_height_px, text_width = text_size(string, 1.3 * cap_px)
    left, top = (width - text_width) // 2, (height - text_height_px) // 2
    if string and canvas.is_free(Rect(left, top, left + text_width, top + text_height_px)):
        canvas.text(string, left, top, 1.3 * cap_px, MUTED)
    return canvas


def text_height(width_px: int) -> float:
    """Return a readable height of capitals, in pixels, for a picture of this width."""
    return max(width_px / 90, MIN_CAP_PX)


def _visible_items(
    layer: BoxLayer,
    intrinsics: NDArray[np.float64],
    cam_from_bev: NDArray[np.float64],
    size: tuple[int, int],
) -> list[_Item]:
    corners_cam = to_camera(layer.corners(), cam_from_bev)  # (D, 8, 3)
    items = []
    for index in np.flatnonzero((corners_cam[..., 2] > NEAR_M).any(1)):
        corners = corners_cam[index]
        edges = visible_segments(corners[np.array(EDGES)], intrinsics, size, _MARGIN_PX)
        if len(edges):
            depth_m = float(corners[:, 2].mean())
            arrow = _velocity_arrow(layer, int(index), cam_from_bev)
            items.append(_Item(layer, int(index), corners, depth_m, edges, arrow))
    return items


def _velocity_arrow(
    layer: BoxLayer, index: int, cam_from_bev: NDArray[np.float64]
) -> NDArray[np.float64] | None:  # (2, 3) start and tip, camera axes
    if not layer.style.arrows:
        return None
    start_m = layer.corners()[index, [0, 3]].mean(0)  # centre of the front, on the ground
    tip_m = arrow_tip(start_m, as_array(layer.boxes.velocity[index]))
    return None if tip_m is None else to_camera(np.stack((start_m, tip_m)), cam_from_bev)


def _draw_box(
    canvas: Canvas,
    item: _Item,
    intrinsics: NDArray[np.float64],
    class_names: tuple[str, ...],
) -> None:
    height, width = canvas.size
    style = item.layer.style
    color = item.layer.color(item.index, class_names)
    thickness = _line_width(style.thickness, width)
    corners = item.corners_cam
    if style.fill_opacity:
        front = visible_polygon(corners[list(FRONT_FACE)], intrinsics, (height, width), _MARGIN_PX)
        canvas.polygon(front, color, style.fill_opacity)
    center = corners[:4].mean(0)
    front_center = corners[[0, 3]].mean(0)
    heading = np.stack((center, front_center))[None]
    heading_lines = visible_segments(heading, intrinsics, (height, width), _MARGIN_PX)
    edges = item.edges
    if style.ground_only:
        ground = corners[np.array(EDGES[_GROUND])]
        edges = visible_segments(ground, intrinsics, (height, width), _MARGIN_PX)
    for segment in (*edges, *heading_lines):
        if style.ground_only:  # a dark border keeps a thin line visible on light ground
            canvas.line(segment, BLACK, thickness + 1)
    for segment in (*edges, *heading_lines):
        canvas.line(segment, color, thickness)
    if item.arrow_cam is not None:
        _draw_arrow(canvas, item.arrow_cam, intrinsics, color)


def _draw_arrow(
    canvas: Canvas,
    arrow_cam: NDArray[np.float64],  # (2, 3)
    intrinsics: NDArray[np.float64],
    color: RGB,
) -> None:
    """Draw a line with a head whose size follows the picture's width, not the perspective."""
    shaft = visible_segments(arrow_cam[None], intrinsics, canvas.size, _MARGIN_PX)
    if not len(shaft):
        return
    (start, end), width = shaft[0], canvas.pixels.shape[1]
    length_px = float(np.linalg.norm(end - start))
    if length_px < _MIN_ARROW_PX:
        return
    thickness = _line_width(1.4, width)
    canvas.line(shaft[0], BLACK, thickness + 2)  # outline: visible on ground of any colour
    canvas.line(shaft[0], color, thickness)
    tip_m = arrow_cam[1]
    if tip_m[2] > NEAR_M and np.allclose(to_pixels(tip_m, intrinsics), end):  # tip is visible
        forward = (end - start) / length_px
        across = np.array([forward[1], -forward[0]])
        base = end - min(max(width / 45, 7.0), 0.7 * length_px) * forward
        half = 0.45 * float(np.linalg.norm(end - base)) * across
        canvas.polygon(np.stack((end, base + half, base - half)), color, 1.0)


def _line_width(factor: float, width_px: int) -> int:
    return max(round(factor * width_px / 900), 1)


def _label_order(item: _Item) -> tuple[float, float]:
    scores = item.layer.scores
    return (0.0 if scores is None else -float(scores[item.index]), item.depth_m)


def _label_boxes(
    placer: LabelPlacer,
    canvas: Canvas,
    items: Sequence[_Item],
    class_names: tuple[str, ...],
    cap_px: float,
) -> None:
    """Write each box's label beside it, unless it would cover a box or a label."""
    for item in items:
        outline = item.edges.reshape(-1, 2)
        high = bounding_rect(outline, canvas.bounds).height >= _MIN_LABELLED * cap_px
        if item.layer.style.labelled and high:
            color = item.layer.color(item.index, class_names)
            caption = item.layer.caption(item.index, class_names)
            placer.write_above(Label(caption, color, outline))


def _write_name(canvas: Canvas, name: str, cap_px: float) -> None:
    string = fit_text(name, cap_px, canvas.pixels.shape[1])
    if string:
        canvas.text(string, 0, 0, cap_px, WHITE, plate=BLACK, plate_opacity=0.65)
