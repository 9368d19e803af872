"""Bird's-eye view of boxes: x (forward) points up, y (left) points left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.render.arrows import arrow_tip
from bevstack.render.camera_view import text_height
from bevstack.render.canvas import Canvas, Rect, text_size
from bevstack.render.clipping import clip_polygon, clip_segments, image_borders
from bevstack.render.colors import LANE, MUTED, PANEL, RGB, ROAD, RULE, SHADOW, TRAIL
from bevstack.render.element_bev import ElementDrawing, draw_lanes, draw_marks
from bevstack.render.element_marks import ElementMark
from bevstack.render.labels import Label, LabelPlacer
from bevstack.render.layers import BoxLayer, as_array
from bevstack.render.surroundings import Surroundings

# Outline of the nuScenes car, measured from its rear axle; it only marks the ego vehicle.
EGO_LENGTH_M, EGO_WIDTH_M, EGO_REAR_OVERHANG_M = 4.08, 1.73, 0.9
_RANGE_ANGLE_RAD = math.radians(45)


@dataclass(frozen=True, kw_only=True)
class BEVView:
    """Rectangle of the ego frame that is shown, and its size in pixels.

    Raises:
        ValueError: A range is empty, or ``height_px`` or ``grid_m`` is not positive.
    """

    height_px: int = 720
    x_range_m: tuple[float, float] = (-52.0, 52.0)
    y_range_m: tuple[float, float] = (-52.0, 52.0)
    grid_m: float | None = None  # spacing of grid lines; None: range rings only

    def __post_init__(self) -> None:
        for name in ("x_range_m", "y_range_m"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must be (low, high) with low < high; got {(low, high)}")
        if self.height_px < 1:
            raise ValueError(f"height_px must be positive; got {self.height_px}")
        if self.grid_m is not None and self.grid_m <= 0:
            raise ValueError(f"grid_m must be positive; got {self.grid_m}")

    @property
    def pixels_per_m(self) -> float:
        """Return the scale, which is the same along both axes."""
        return self.height_px / (self.x_range_m[1] - self.x_range_m[0])

    @property
    def width_px(self) -> int:
        """Return the width that shows ``y_range_m`` at that scale."""
        return max(round((self.y_range_m[1] - self.y_range_m[0]) * self.pixels_per_m), 1)

    def to_pixels(
        self,
        points_m: NDArray[np.float64],  # (..., 2 or 3) x forward, y left
    ) -> NDArray[np.float64]:  # (..., 2) continuous (column, row)
        """Return the pixel coordinates of points."""
        column = (self.y_range_m[1] - points_m[..., 1]) * self.pixels_per_m
        row = (self.x_range_m[1] - points_m[..., 0]) * self.pixels_per_m
        return np.stack((column, row), -1)


def draw_bev(
    layers: Sequence[BoxLayer],  # in the ego frame
    class_names: tuple[str, ...],
    view: BEVView | None = None,
    *,
    surroundings: Surroundings | None = None,  # in the ego frame
    shadow: BoxLayer | None = None,  # boxes to compare with, drawn as grey areas below all boxes
    elements: Sequence[ElementMark] = (),  # in the ego frame
) -> Canvas:
    """Draw boxes from above, with range rings, the ego vehicle, headings and velocity arrows.

    Lights and signs are drawn over the boxes, and the lanes and stop lines of those that govern
    the own lane below them.

    The line from a box's centre to its front shows its heading. The arrow ends where the object
    will be after ``arrows.ARROW_S``. Boxes that stand or have no velocity get no arrow. A box with
    an identity gets its number beside it, unless the number would cover a box.

    Raises:
        ValueError: A label has no class name.
    """
    view = view or BEVView()
    canvas = Canvas.filled(view.height_px, view.width_px, PANEL)
    surroundings = surroundings or Surroundings()
    _draw_ground(canvas, view, surroundings)
    _draw_grid(canvas, view)
    _draw_rings(canvas, view)
    _write_ranges(canvas, view)  # below the boxes, so that it hides none
    if shadow is not None:
        for outline_m in shadow.corners()[:, :4, :2]:
            canvas.polygon(_clip_polygon(view.to_pixels(outline_m), canvas), SHADOW, 1.0)
    _draw_trail(canvas, view, surroundings)
    drawing = ElementDrawing(canvas, view.to_pixels, lambda part: _clip_segments(part, canvas))
    draw_lanes(drawing, elements)
    _draw_ego(canvas, view)
    for layer in layers:
        for index in reversed(range(len(layer))):  # the best score last, so that it is on top
            _draw_box(canvas, view, layer, index, class_names)
    drawn = (*layers, shadow) if shadow is not None else tuple(layers)
    placer = LabelPlacer(canvas, text_height(view.width_px))
    _occupy(placer, canvas, view, drawn, surroundings)
    draw_marks(drawing, elements, placer)
    _number_boxes(placer, canvas, view, layers, class_names)
    return canvas


def _draw_ground(canvas: Canvas, view: BEVView, surroundings: Surroundings) -> None:
    """Fill the drivable area and draw the lanes' centre lines."""
    canvas.area([view.to_pixels(outline) for outline in surroundings.drivable], ROAD)
    for lane in surroundings.lanes:
        segments = np.stack((lane[:-1], lane[1:]), 1)
        for segment in _clip_segments(view.to_pixels(segments), canvas):
            canvas.line(segment, LANE, 1)


def _draw_trail(canvas: Canvas, view: BEVView, surroundings: Surroundings) -> None:
    """Draw the path driven so far, with a dot at each earlier position."""
    trail = surroundings.trail
    if trail is None or len(trail) < 2:
        return
    thickness = max(round(view.height_px / 600), 1)
    segments = np.stack((trail[:-1], trail[1:]), 1)
    for segment in _clip_segments(view.to_pixels(segments), canvas):
        canvas.line(segment, TRAIL, thickness)
    reach_px = 3.0 * view.height_px
    for column, row in view.to_pixels(trail[:-1]):
        if max(abs(column), abs(row)) < reach_px:
            canvas.disc((float(column), float(row)), 2.0 * thickness, TRAIL)


def _occupy(
    placer: LabelPlacer,
    canvas: Canvas,
    view: BEVView,
    layers: Sequence[BoxLayer],
    surroundings: Surroundings,
) -> None:
    """Keep boxes, arrows and the path driven free of numbers."""
    segments = []
    for layer in layers:
        for index, outline_m in enumerate(layer.corners()[:, :4, :2]):
            outline = _clip_polygon(view.to_pixels(outline_m), canvas, 0.0)
            if len(outline):
                placer.occupy(outline)
            start = outline_m[[0, 3]].mean(0)
            tip = arrow_tip(start, as_array(layer.boxes.velocity[index]))
            if tip is not None:
                segments.append(np.stack((start, tip)))
    if surroundings.trail is not None and len(surroundings.trail) > 1:
        segments += list(np.stack((surroundings.trail[:-1], surroundings.trail[1:]), 1))
    if segments:
        for segment in _clip_segments(view.to_pixels(np.stack(segments)), canvas):
            placer.occupy(segment)


def _number_boxes(
    placer: LabelPlacer,
    canvas: Canvas,
    view: BEVView,
    layers: Sequence[BoxLayer],
    class_names: tuple[str, ...],
) -> None:
    for layer in layers:
        if layer.identities is None:
            continue
        for index, outline_m in enumerate(layer.corners()[:, :4, :2]):
            outline = _clip_polygon(view.to_pixels(outline_m), canvas, 0.0)
            if len(outline):
                color = layer.color(index, class_names)
                placer.write_beside(Label(str(int(layer.identities[index])), color, outline))


def _draw_grid(canvas: Canvas, view: BEVView) -> None:
    if view.grid_m is None:
        return
    faint = (44, 49, 58)
    for x in _multiples(view.x_range_m, view.grid_m):
        line = np.array([[x, view.y_range_m[0]], [x, view.y_range_m[1]]])
        canvas.line(view.to_pixels(line), faint, 1)
    for y in _multiples(view.y_range_m, view.grid_m):
        line = np.array([[view.x_range_m[0], y], [view.x_range_m[1], y]])
        canvas.line(view.to_pixels(line), faint, 1)


def _ring_radii(view: BEVView) -> NDArray[np.float64]:
    x_range, y_range = view.x_range_m, view.y_range_m
    farthest = math.hypot(max(map(abs, x_range)), max(map(abs, y_range)))
    step = ring_step(min(x_range[1] - x_range[0], y_range[1] - y_range[0]) / 2)
    return np.arange(step, farthest, step)


def _draw_rings(canvas: Canvas, view: BEVView) -> None:
    column, row = view.to_pixels(np.zeros(2))
    for radius in _ring_radii(view):
        canvas.circle((column, row), radius * view.pixels_per_m, RULE)


def _write_ranges(canvas: Canvas, view: BEVView) -> None:
    """Write the distance of each ring at its front right, clear of the ego vehicle's lane."""
    cap_px = text_height(view.width_px)
    direction = np.array([math.cos(_RANGE_ANGLE_RAD), -math.sin(_RANGE_ANGLE_RAD)])
    for radius in _ring_radii(view):
        string = f"{radius:g} m"
        height, width = text_size(string, cap_px)
        column, row = view.to_pixels(radius * direction)
        left, top = round(column - width / 2), round(row - height / 2)
        if canvas.is_free(Rect(left, top, left + width, top + height)):
            canvas.text(string, left, top, cap_px, MUTED, plate=PANEL, plate_opacity=0.6)


def ring_step(reach_m: float) -> float:
    """Return the distance between rings, (1, 2, 5) x 10^n metres, that gives 3 to 7 rings."""
    power = 10.0 ** math.floor(math.log10(reach_m / 3))
    return max(factor * power for factor in (1.0, 2.0, 5.0) if factor * power <= reach_m / 3)


def _draw_ego(canvas: Canvas, view: BEVView) -> None:
    rear, front = -EGO_REAR_OVERHANG_M, EGO_LENGTH_M - EGO_REAR_OVERHANG_M
    half = EGO_WIDTH_M / 2
    outline = np.array([[rear, half], [rear, -half], [front - 1, -half], [front, 0.0]])
    outline = np.concatenate((outline, [[front - 1, half]]))
    pixels = _clip_polygon(view.to_pixels(outline), canvas)
    canvas.polygon(pixels, MUTED, 1.0)


def _draw_box(
    canvas: Canvas, view: BEVView, layer: BoxLayer, index: int, class_names: tuple[str, ...]
) -> None:
    style = layer.style
    color = layer.color(index, class_names)
    thickness = max(round(style.thickness * canvas.pixels.shape[0] / 640), 1)
    outline_m = as_array(layer.boxes[index].corners())[:4, :2]
    center_m, front_m = outline_m.mean(0), outline_m[[0, 3]].mean(0)
    outline = view.to_pixels(outline_m)
    if style.fill_opacity:
        canvas.polygon(_clip_polygon(outline, canvas), color, style.fill_opacity)
    sides = np.stack((outline, np.roll(outline, -1, 0)), 1)
    heading = view.to_pixels(np.stack((center_m, front_m)))[None]
    for segment in _clip_segments(np.concatenate((sides, heading)), canvas):
        canvas.line(segment, color, thickness)
    _draw_arrow(canvas, view, front_m, as_array(layer.boxes.velocity[index]), color)


def _draw_arrow(
    canvas: Canvas,
    view: BEVView,
    start_m: NDArray[np.float64],  # (2,)
    velocity_mps: NDArray[np.float64],  # (2,)
    color: RGB,
) -> None:
    tip_m = arrow_tip(start_m, velocity_mps)
    if tip_m is None:
        return
    forward = velocity_mps / np.linalg.norm(velocity_mps)
    left = np.array([-forward[1], forward[0]])
    barb_m = 5.0 / view.pixels_per_m
    barbs = [tip_m - barb_m * forward + side * 0.6 * barb_m * left for side in (1, -1)]
    lines = [(start_m, tip_m), (tip_m, barbs[0]), (tip_m, barbs[1])]
    for segment in _clip_segments(view.to_pixels(np.array(lines)), canvas):
        canvas.line(segment, color, 1)


def _clip_segments(segments: NDArray[np.float64], canvas: Canvas) -> NDArray[np.float64]:
    for normal, offset in image_borders(canvas.size, 8.0):
        segments = clip_segments(segments, normal, offset)
    return segments


def _clip_polygon(
    points: NDArray[np.float64], canvas: Canvas, margin_px: float = 8.0
) -> NDArray[np.float64]:
    for normal, offset in image_borders(canvas.size, margin_px):
        points = clip_polygon(points, normal, offset)
    return points


def _multiples(range_m: tuple[float, float], step: float) -> NDArray[np.float64]:
    return np.arange(math.ceil(range_m[0] / step), math.floor(range_m[1] / step) + 1) * step
