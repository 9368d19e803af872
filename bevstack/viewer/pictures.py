"""Pictures of moments: the scene, below it the camera pictures, above it a title."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.file_names import safe_name
from bevstack.files import replacing
from bevstack.render import Canvas, write_animation, write_picture
from bevstack.render.canvas import fit_text, text_size
from bevstack.render.colors import BACKGROUND, MUTED, PANEL, RGB, WHITE, text_color
from bevstack.viewer.camera_files import thumbnail
from bevstack.viewer.coloring import (
    ERROR_COLORS,
    MODEL_COLORS,
    Colors,
    predicted_colors,
    true_colors,
)
from bevstack.viewer.drawn import draw
from bevstack.viewer.moment import BoxArrays, CameraView, ErrorKind, Floats, Moment
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.primitives import Drawing
from bevstack.viewer.source import MomentSource
from bevstack.viewer.strip import ordered, projected_edges
from bevstack.viewer.view_state import BY_ERROR, BY_MODEL, ViewState

Image = NDArray[np.uint8]  # (H, W, 3) RGB

PICTURES, ANIMATIONS, VIDEOS = (".png", ".jpg", ".jpeg"), (".gif", ".webp"), (".mp4",)
_GAP_PX = 6
_CAP_PX = 13.0  # height of capitals of the title
_NAME_CAP_PX = 10.0
_LEAST_S = 0.02
_DASHES = 4  # of one edge of a true box in a camera picture


class Renderer(Protocol):
    """Renderer of drawings into pictures of one size."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Return width and height."""
        ...

    def render(self, drawing: Drawing, pinhole: Pinhole) -> Image:
        """Return the picture of a drawing."""
        ...


def save_pictures(
    source: MomentSource, state: ViewState, out: Path, renderer: Renderer
) -> list[Path]:
    """Save the moment of a state as a picture, or its scene as pictures, GIF or video.

    Args:
        source: the moments.
        state: the frame, boxes, layers and camera.
        out: a name that ends with .png or .jpg: the frame; .gif, .webp or .mp4: the scene; any
            other: a folder with one picture of each frame of the scene.
        renderer: draws the scenes.

    Returns:
        The paths of the files.

    Raises:
        ValueError: a picture of a camera is damaged.
        OSError: a file cannot be written.
    """
    suffix = out.suffix.lower()
    if suffix in PICTURES:
        return [write_picture(out, compose(source, state, renderer))]
    count = source.count(state.scene)
    states = [replace(state, index=index) for index in range(count)]
    pictures = (compose(source, each, renderer) for each in states)
    if suffix in ANIMATIONS:
        return [
            write_animation(out, list(pictures), seconds_each=max(step_s(source, state), _LEAST_S))
        ]
    if suffix in VIDEOS:
        return [write_video(out, pictures, 1 / max(step_s(source, state), _LEAST_S))]
    return [
        write_picture(out / f"{safe_name(f'{state.scene}_{index:03d}')}.png", picture)
        for index, picture in enumerate(pictures)
    ]


def step_s(source: MomentSource, state: ViewState) -> float:
    """Return the mean time between two moments of a scene; 0.5 s for a single one."""
    last = source.count(state.scene) - 1
    if last < 1:
        return 0.5
    first_us = source.moment(state.scene, 0).timestamp_us
    return (source.moment(state.scene, last).timestamp_us - first_us) * 1e-6 / last


def compose(source: MomentSource, state: ViewState, renderer: Renderer) -> Image:
    """Return the picture of one moment."""
    moment = source.moment(state.scene, state.index)
    width, _ = renderer.size_px
    scene = renderer.render(draw(moment, state), Pinhole(state.eye, renderer.size_px))
    parts = [Canvas(scene)]
    if moment.cameras:
        parts.append(_strip(moment, state, width))
    title = _title(moment, state, width)
    height = sum(part.size[0] + _GAP_PX for part in (title, *parts)) + _GAP_PX
    whole = Canvas.filled(height + height % 2, width + 2 * _GAP_PX, BACKGROUND)
    top = _GAP_PX
    for part in (title, *parts):
        whole.paste(part, _GAP_PX, top)
        top += part.size[0] + _GAP_PX
    return whole.pixels


def write_video(path: Path, pictures: Iterator[Image], rate_hz: float) -> Path:
    """Write pictures of one size as MP4 (MPEG-4 part 2, which OpenCV brings along).

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.part.mp4")
    first = next(pictures)
    height, width = first.shape[:2]
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(partial), code, rate_hz, (width, height))
    if not writer.isOpened():
        raise OSError(f"video must be writable; got {path}: choose another folder")
    try:
        for picture in (first, *pictures):
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
    finally:
        writer.release()
    with replacing(path) as file:
        file.write(partial.read_bytes())
    partial.unlink()
    return path


def _title(moment: Moment, state: ViewState, width: int) -> Canvas:
    """Write the scene, the frame, and the meaning of the colours in these colours."""
    words: list[tuple[str, RGB]] = [(f"{moment.scene}  frame {moment.index}", WHITE)]
    words += _legend(moment, state)
    if moment.predicted:
        words.append((f"score >= {state.min_score:g}", MUTED))
    canvas = Canvas.filled(text_size("x", _CAP_PX)[0], width, BACKGROUND)
    left = 0
    for text, color in words:
        fitted = fit_text(text, _CAP_PX, width - left)
        if fitted:
            left = canvas.text(fitted, left, 0, _CAP_PX, text_color(color)).right + _GAP_PX
    return canvas


def _legend(moment: Moment, state: ViewState) -> list[tuple[str, RGB]]:
    if not moment.predicted:
        return [("true boxes", MUTED)]
    truth = [("true (dashed)", WHITE)] if moment.true is not None else []
    if state.color_by == BY_MODEL:
        pairs = zip(moment.predicted, MODEL_COLORS, strict=False)
        return [*((predicted.name, color) for predicted, color in pairs), *truth]
    if state.color_by == BY_ERROR:
        names = {
            "true positive": ErrorKind.TRUE_POSITIVE,
            "false positive": ErrorKind.FALSE_POSITIVE,
            "missed (dashed)": ErrorKind.MISSED,
            "not counted": ErrorKind.UNCOUNTED,
        }
        return [(name, ERROR_COLORS[kind]) for name, kind in names.items()]
    models = " and ".join(predicted.name for predicted in moment.predicted)
    return [(models, MUTED), *truth]


def _strip(moment: Moment, state: ViewState, width: int) -> Canvas:
    cameras = ordered(moment.cameras)
    tile = (width - _GAP_PX * (len(cameras) - 1)) // len(cameras)
    tiles = [_tile(moment, state, camera, tile) for camera in cameras]
    strip = Canvas.filled(max(t.size[0] for t in tiles), width, BACKGROUND)
    for number, drawn in enumerate(tiles):
        strip.paste(drawn, number * (tile + _GAP_PX), 0)
    return strip


def _tile(moment: Moment, state: ViewState, camera: CameraView, width: int) -> Canvas:
    image = thumbnail(camera, width)
    full_width, full_height = camera.size_px
    height = max(round(width * full_height / full_width), 1)
    if image is None:
        canvas = Canvas.filled(height, width, PANEL)
        text = fit_text(f"missing: {camera.missing}", _NAME_CAP_PX, width)
        if text:
            canvas.text(text, 0, height // 2, _NAME_CAP_PX, MUTED)
    else:
        canvas = Canvas(np.asarray(cv2.resize(image, (width, height)), np.uint8))
        for boxes, color, dashes in _boxes(moment, state):
            segments, owner = projected_edges(boxes.corners(), camera)
            if dashes:
                segments, owner = _dashed(segments), np.repeat(owner, _DASHES)
            for segment, row in zip(segments * (width / full_width), owner, strict=True):
                red, green, blue = (int(channel) for channel in color[row])
                canvas.line(segment, (red, green, blue), 1)
    name = camera.name.removeprefix("CAM_").replace("_", " ").lower()
    canvas.text(name, 0, 0, _NAME_CAP_PX, WHITE, plate=BACKGROUND, plate_opacity=0.7)
    return canvas


def _dashed(segments: Floats) -> Floats:  # (S, 2, 2) -> (S x dashes, 2, 2)
    shares = np.arange(_DASHES)[:, None] + np.array((0.0, 0.5))
    way = segments[:, 1:] - segments[:, :1]
    dashes: Floats = segments[:, None, :1] + (shares / _DASHES)[None, :, :, None] * way[:, None]
    return dashes.reshape(-1, 2, 2)


def _boxes(moment: Moment, state: ViewState) -> Iterator[tuple[BoxArrays, Colors, bool]]:
    """Yield the shown boxes with their colours, and True for dashed lines; true ones first."""
    if "true" in state.layers and moment.true is not None:
        rows = moment.shown_true(state.labels)
        yield moment.true[rows], true_colors(moment, state)[rows], bool(moment.predicted)
    if "predicted" in state.layers:
        for model, predicted in enumerate(moment.predicted):
            rows = moment.shown(model, state.min_score, state.labels)
            yield predicted.boxes[rows], predicted_colors(moment, model, state)[rows], False
