"""Sheets: all cameras, arranged by direction, with views from above and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.geometry import invert_se3
from bevstack.render.bev_view import BEVView, draw_bev
from bevstack.render.camera_view import draw_camera, draw_lost_camera, text_height
from bevstack.render.canvas import Canvas, Image, fit_text, text_size
from bevstack.render.colors import BACKGROUND, MUTED, WHITE
from bevstack.render.cue_panel import draw_cue_panel
from bevstack.render.element_marks import ElementMark, TrafficLayer
from bevstack.render.layers import BoxLayer, BoxStyle, as_array
from bevstack.render.legend import draw_legend
from bevstack.render.surroundings import Surroundings
from bevstack.types import Frame

# Arrangement of nuScenes' six cameras: front cameras in the upper row, rear ones below.
_ROLES = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
_GAP_PX = 6
_IN_OWN_VIEW = BoxStyle(name="", fill_opacity=0.25, thickness=1.15)
# Lights and signs count ahead; true ones in cameras that look farther aside have no counterpart.
_AHEAD_RAD = math.radians(75.0)
_DEFAULT_ASPECT = 9 / 16  # height / width of tiles if all cameras are lost


@dataclass(frozen=True, kw_only=True)
class SheetStyle:
    """Sizes and ranges of a sheet.

    Raises:
        ValueError: ``tile_width_px`` is below 64.
    """

    tile_width_px: int = 560  # of every camera
    x_range_m: tuple[float, float] = (-52.0, 52.0)  # of the bird's-eye view
    y_range_m: tuple[float, float] = (-52.0, 52.0)
    grid_m: float | None = None  # spacing of its grid lines; None: range rings only
    camera_names: bool = True  # write each camera's role on its tile

    def __post_init__(self) -> None:
        if self.tile_width_px < 64:
            raise ValueError(f"tile_width_px must be at least 64; got {self.tile_width_px}")


def draw_sheet(
    frame: Frame,
    layers: Sequence[BoxLayer],  # in the frame's bev frame
    class_names: tuple[str, ...],
    *,
    title: str = "",
    caption: str = "",
    style: SheetStyle | None = None,
    surroundings: Surroundings | None = None,  # in the ego frame
    traffic: TrafficLayer | None = None,  # lights and signs, in the ego frame
) -> Canvas:
    """Draw one frame: every camera with its boxes, and views from above.

    Six cameras with nuScenes' roles form two rows: front-left, front, front-right above back-left,
    back, back-right. Any other rig fills a grid in the order of its cameras. Images are resized
    before the boxes are drawn, so that lines and text are sharp.

    Views from above are in the ego frame. True and predicted boxes have one view each, side by side
    in one scale, in the colours of their classes; below the predicted boxes the true ones are grey
    areas. Two views stand below the cameras, or beside a single camera; one view beside them.
    Sheets of one rig with one list of up to 12 classes are equal in size, whatever they show, so
    they can be the frames of a film. With ``traffic``, a panel above the cameras shows the cue for
    the vehicle and enlarged pictures of the elements that it follows from; true and predicted
    elements stand in the view of their kind.

    Raises:
        ValueError: A label has no class name.
    """
    style = style or SheetStyle()
    cells = arrange_cameras(frame.camera_names, frame.num_cameras)
    tiles = _draw_tiles(frame, layers, class_names, style, traffic)
    cameras = _assemble(tiles, cells, style.tile_width_px)
    cap_px = text_height(style.tile_width_px * 5 // 4)
    below = len(layers) == 2 and cameras.bounds.width > style.tile_width_px
    if below:
        width_px = (cameras.bounds.width - _GAP_PX) // 2
        height_px = round(width_px / _aspect(style))
    else:
        height_px = min(max(cameras.bounds.height, style.tile_width_px), 2 * style.tile_width_px)
    view = BEVView(
        height_px=height_px,
        x_range_m=style.x_range_m,
        y_range_m=style.y_range_m,
        grid_m=style.grid_m,
    )
    views = _draw_views(frame, layers, class_names, view, surroundings, cap_px, traffic)
    body = _stack((cameras, _beside(views))) if below else _beside((cameras, *views))
    legend = draw_legend(layers, class_names, body.bounds.width, cap_px, surroundings, traffic)
    header = _draw_header(title, caption, body.bounds.width, cap_px)
    panel = None if traffic is None else draw_cue_panel(frame, traffic, body.bounds.width, cap_px)
    parts = (header, panel, body, legend)
    return _framed(_stack([part for part in parts if part is not None]))


def _aspect(style: SheetStyle) -> float:
    """Return width / height of a view from above."""
    (back, front), (right, left) = style.x_range_m, style.y_range_m
    return (left - right) / (front - back)


def _draw_views(
    frame: Frame,
    layers: Sequence[BoxLayer],
    class_names: tuple[str, ...],
    view: BEVView,
    surroundings: Surroundings | None,
    cap_px: float,
    traffic: TrafficLayer | None,
) -> list[Canvas]:
    """Draw one view from above for predicted and one for true boxes, or one for all layers."""
    traffic = traffic or TrafficLayer()
    if frame.bev_from_ego is not None:
        ego_from_bev = invert_se3(frame.bev_from_ego)
        layers = [layer.transformed(ego_from_bev) for layer in layers]
    if len(layers) != 2:
        marks = traffic.marks
        return [draw_bev(layers, class_names, view, surroundings=surroundings, elements=marks)]
    true, predicted = layers
    views = []
    for layer, shadow, marks in (
        (predicted, true, traffic.predicted or ()),
        (true, None, traffic.true),
    ):
        plain = replace(layer, style=replace(_IN_OWN_VIEW, name=layer.style.name))
        drawn = draw_bev(
            [plain],
            class_names,
            view,
            surroundings=surroundings,
            shadow=shadow,
            elements=marks,
        )
        heading = _draw_header(f"{layer.style.name} boxes", "", view.width_px, cap_px)
        assert heading is not None  # it has a title
        views.append(_stack((heading, drawn)))
    return views


def arrange_cameras(
    names: Sequence[str],  # one for each camera, or empty
    num_cameras: int,
) -> list[tuple[int, int]]:
    """Return row and column of every camera on a sheet."""
    roles = {role: (r, c) for r, row in enumerate(_ROLES) for c, role in enumerate(row)}
    if sorted(names) == sorted(roles):
        return [roles[name] for name in names]
    columns = num_cameras if num_cameras <= 3 else math.ceil(math.sqrt(num_cameras))
    return [divmod(index, columns) for index in range(num_cameras)]


def _draw_tiles(
    frame: Frame,
    layers: Sequence[BoxLayer],
    class_names: tuple[str, ...],
    style: SheetStyle,
    traffic: TrafficLayer | None,
) -> list[Canvas]:
    assert frame.camera_mask is not None  # set by Frame
    cam_from_bev = as_array(invert_se3(frame.bev_from_cam()))
    intrinsics = as_array(frame.intrinsics)
    lost_size = _lost_size(frame, style.tile_width_px)
    tiles = []
    for index, image in enumerate(frame.images):
        name = _tile_name(frame, index) if style.camera_names else ""
        if image is None or not bool(frame.camera_mask[index]):
            tiles.append(draw_lost_camera(lost_size, name))
            continue
        resized, matrix = fit_image(image, intrinsics[index], style.tile_width_px)
        labelled, corners = _marks_in(frame, index, traffic, resized.shape[1] / image.shape[1])
        tiles.append(
            draw_camera(
                resized,
                matrix,
                cam_from_bev[index],
                layers,
                class_names,
                name=name,
                elements=labelled,
                true_elements=corners,
            )
        )
    return tiles


def _marks_in(
    frame: Frame, index: int, traffic: TrafficLayer | None, scale: float
) -> tuple[list[ElementMark], list[ElementMark]]:
    """Return the marks of one camera that get labels, and true ones to compare with, scaled."""
    if traffic is None:
        return [], []
    channel = (frame.camera_names[index] if frame.camera_names else "") or f"camera {index}"
    axis = frame.ego_from_cam[index, :2, 2]
    looks_ahead = abs(math.atan2(float(axis[1]), float(axis[0]))) <= _AHEAD_RAD
    compared = traffic.true if traffic.predicted is not None and looks_ahead else ()
    labelled, corners = (
        [mark.scaled(scale) for mark in marks if mark.box_px is not None and mark.camera == channel]
        for marks in (traffic.marks, compared)
    )
    return labelled, corners


def _lost_size(frame: Frame, width_px: int) -> tuple[int, int]:
    """Return height and width of a lost camera's tile: those of the image with the least H / W."""
    aspects = [image.shape[0] / image.shape[1] for image in frame.images if image is not None]
    aspect = min(min(aspects, default=_DEFAULT_ASPECT), 1.0)
    return max(round(width_px * aspect), 1), width_px


def _tile_name(frame: Frame, index: int) -> str:
    name = frame.camera_names[index] if frame.camera_names else ""
    return name.removeprefix("CAM_").replace("_", " ").lower() if name else f"camera {index}"


def fit_image(
    image: Image,
    intrinsics: NDArray[np.float64],  # (3, 3)
    width_px: int,
) -> tuple[Image, NDArray[np.float64]]:
    """Return the image, resized so that its longer side is ``width_px``, and its new intrinsics."""
    height, width = image.shape[:2]
    factor = width_px / max(height, width)
    new_height, new_width = max(round(height * factor), 1), max(round(width * factor), 1)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    scale = np.diag((new_width / width, new_height / height, 1.0))
    return np.asarray(resized, np.uint8), scale @ intrinsics


def _assemble(
    tiles: Sequence[Canvas], cells: Sequence[tuple[int, int]], tile_width_px: int
) -> Canvas:
    """Paste tiles into the (row, column) cells of a grid, each tile centred.

    A row is as high as its tallest tile.
    """
    rows, columns = (max(cell[axis] for cell in cells) + 1 for axis in (0, 1))
    heights = [0] * rows
    for tile, (row, _) in zip(tiles, cells, strict=True):
        heights[row] = max(heights[row], tile.bounds.height)
    step_px = tile_width_px + _GAP_PX
    height = sum(heights) + _GAP_PX * (rows - 1)
    sheet = Canvas.filled(height, columns * step_px - _GAP_PX, BACKGROUND)
    for tile, (row, column) in zip(tiles, cells, strict=True):
        top = sum(heights[:row]) + _GAP_PX * row + (heights[row] - tile.bounds.height) // 2
        sheet.paste(tile, column * step_px + (tile_width_px - tile.bounds.width) // 2, top)
    return sheet


def _draw_header(title: str, caption: str, width: int, cap_px: float) -> Canvas | None:
    """Draw one line: the title, and as much of the caption as fits beside it."""
    if not title and not caption:
        return None
    header = Canvas.filled(text_size("x", cap_px)[0], width, BACKGROUND)
    left = 0
    for text, color in ((title, WHITE), (caption, MUTED)):
        fitted = fit_text(text, cap_px, width - left)
        if fitted:
            left = header.text(fitted, left, 0, cap_px, color).right
    return header


def _stack(parts: Sequence[Canvas]) -> Canvas:
    height = sum(part.bounds.height for part in parts) + _GAP_PX * (len(parts) - 1)
    whole = Canvas.filled(height, max(part.bounds.width for part in parts), BACKGROUND)
    top = 0
    for part in parts:
        whole.paste(part, 0, top)
        top += part.bounds.height + _GAP_PX
    return whole


def _beside(parts: Sequence[Canvas]) -> Canvas:
    height = max(part.bounds.height for part in parts)
    width = sum(part.bounds.width for part in parts) + _GAP_PX * (len(parts) - 1)
    whole = Canvas.filled(height, width, BACKGROUND)
    left = 0
    for part in parts:
        whole.paste(part, left, 0)
        left += part.bounds.width + _GAP_PX
    return whole


def _framed(part: Canvas) -> Canvas:
    height, width = part.size
    whole = Canvas.filled(height + 2 * _GAP_PX, width + 2 * _GAP_PX, BACKGROUND)
    whole.paste(part, _GAP_PX, _GAP_PX)
    return whole
