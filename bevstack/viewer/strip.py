"""Strip of camera pictures with boxes projected into them, as HTML.

A picture keeps the bytes of its file; the boxes lie over it as vector graphics, so they are sharp
at any size and nothing is encoded again.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence

import numpy as np

from bevstack.render.clipping import EDGES, NEAR_M, clip_segments, image_borders
from bevstack.viewer.coloring import Colors, css, predicted_colors, true_colors
from bevstack.viewer.moment import BoxArrays, CameraView, Floats, Indices, Moment
from bevstack.viewer.view_state import BY_ERROR, ViewState

_EDGES = np.array(EDGES)
_FRONT_LEFT_TO_RIGHT = (
    *("CAM_BACK_LEFT", "CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT"),
    "CAM_BACK",
)
_MARGIN = 0.02  # of the picture's width, beyond which lines are cut
_WIDTH = 1 / 260  # of a line, relative to the picture's width


def strip_html(moment: Moment, state: ViewState) -> str:
    """Return the pictures of all cameras in one row, from back left over front to back right."""
    tiles = "".join(_tile(moment, state, camera) for camera in ordered(moment.cameras))
    count = max(len(moment.cameras), 1)
    return (
        '<div id="camera-strip" style="display:grid;gap:4px;padding:4px;'
        f'grid-template-columns:repeat({count},1fr)">{tiles}</div>'
    )


def ordered(cameras: Sequence[CameraView]) -> list[CameraView]:
    """Return cameras as a driver sees them if they have nuScenes' roles, else in their order."""
    if sorted(camera.name for camera in cameras) != sorted(_FRONT_LEFT_TO_RIGHT):
        return list(cameras)
    return sorted(cameras, key=lambda camera: _FRONT_LEFT_TO_RIGHT.index(camera.name))


def projected_edges(
    corners_m: Floats,  # (D, 8, 3) in the ego frame
    camera: CameraView,
) -> tuple[Floats, Indices]:  # (S, 2, 2) pixels, (S,) rows of the boxes
    """Return the visible parts of the edges of boxes in a picture.

    Edges are cut at a plane in front of the camera and at the borders of the picture.
    """
    rotation, place = camera.ego_from_cam[:3, :3], camera.ego_from_cam[:3, 3]
    edges = ((corners_m - place) @ rotation)[:, _EDGES]  # (D, 12, 2, 3)
    owner = np.broadcast_to(np.arange(len(edges))[:, None, None, None], (*edges.shape[:3], 1))
    tagged = np.concatenate((edges, owner), -1).reshape(-1, 2, 4)  # the box travels along
    tagged = clip_segments(tagged, np.array((0.0, 0.0, 1.0, 0.0)), NEAR_M)
    pixels = tagged[..., :3] @ camera.intrinsics.T
    tagged = np.concatenate((pixels[..., :2] / pixels[..., 2:], tagged[..., 3:]), -1)
    width, height = camera.size_px
    for normal, offset in image_borders((height, width), _MARGIN * width):
        tagged = clip_segments(tagged, np.append(normal, 0.0), offset)
    return tagged[..., :2], np.rint(tagged[:, 0, 2]).astype(np.int64)


def _tile(moment: Moment, state: ViewState, camera: CameraView) -> str:
    width, height = camera.size_px
    name = html.escape(camera.name.removeprefix("CAM_").replace("_", " ").lower())
    frame = (
        '<div style="position:relative;overflow:hidden;border-radius:4px;background:#3a414c;'
        f'aspect-ratio:{width}/{height}">'
    )
    label = (
        '<div style="position:absolute;left:0;top:0;padding:1px 6px;font:12px/1.4 sans-serif;'
        f'color:#fff;background:rgba(0,0,0,.65);border-bottom-right-radius:4px">{name}</div>'
    )
    if camera.encoded is None:
        missing = html.escape(camera.missing or "no picture")
        return (
            f'{frame}<div class="missing" style="position:absolute;inset:0;display:flex;'
            "align-items:center;justify-content:center;padding:18px 6px 4px;text-align:center;"
            'font:12px/1.3 sans-serif;color:#e6eaf0;overflow-wrap:anywhere">'
            f"missing: {missing}</div>{label}</div>"
        )
    data = base64.b64encode(camera.encoded).decode("ascii")
    picture = (
        f'<img alt="{name}" style="position:absolute;inset:0;width:100%;height:100%" '
        f'src="data:{camera.media_type};base64,{data}">'
    )
    return f"{frame}{picture}{_overlay(moment, state, camera)}{label}</div>"


def _overlay(moment: Moment, state: ViewState, camera: CameraView) -> str:
    width, height = camera.size_px
    paths = "".join(_paths(moment, state, camera))
    return (
        '<svg style="position:absolute;inset:0;width:100%;height:100%" '
        f'viewBox="0 0 {width} {height}" fill="none" stroke-linecap="round">{paths}</svg>'
    )


def _paths(moment: Moment, state: ViewState, camera: CameraView) -> Iterator[str]:
    stroke = camera.size_px[0] * _WIDTH
    if "true" in state.layers and moment.true is not None:
        rows = moment.shown_true(state.labels)
        dash = "" if not moment.predicted else f"{3 * stroke:.1f} {2.5 * stroke:.1f}"
        wide = 1.0 if not moment.predicted or state.color_by == BY_ERROR else 0.75
        color = true_colors(moment, state)[rows]
        yield from _box_paths(moment.true[rows], color, camera, wide * stroke, dash)
    if "predicted" in state.layers:
        for model, predicted in enumerate(moment.predicted):
            rows = moment.shown(model, state.min_score, state.labels)
            color = predicted_colors(moment, model, state)[rows]
            yield from _box_paths(predicted.boxes[rows], color, camera, stroke, "")


def _box_paths(
    boxes: BoxArrays, color: Colors, camera: CameraView, stroke: float, dash: str
) -> Iterator[str]:
    """Yield one path for each colour that is seen."""
    if not len(boxes):
        return
    segments, owner = projected_edges(boxes.corners(), camera)
    seen = color[owner]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    for shade in np.unique(seen, axis=0):
        part = segments[(seen == shade).all(1)]
        moves = "".join(
            f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" for (x0, y0), (x1, y1) in part.tolist()
        )
        yield f'<path d="{moves}" stroke="{css(shade)}" stroke-width="{stroke:.2f}"{dashes}/>'
