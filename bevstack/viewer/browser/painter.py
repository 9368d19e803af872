"""Painting of a moment into the scene of the browser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import viser
from numpy.typing import NDArray

from bevstack.geometry import quaternion_from_rotation
from bevstack.viewer.camera_files import thumbnail
from bevstack.viewer.drawn_boxes import MAX_EDGED
from bevstack.viewer.moment import CameraView, Floats, Moment
from bevstack.viewer.primitives import Drawing, Lines, Points, Solids

ROOT = "/ego"
TEXTURE_PX = 200  # width of the pictures on the frusta
_FRUSTUM_M = 0.6
_FRUSTUM_COLOR = (128, 140, 156)
_CUBE = np.array(
    [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32
)
_FACES = np.array(
    [
        *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5)),
        *((0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6)),
        *((0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)),
    ],
    np.uint32,
)
# Properties of nodes that never change.
_FIXED: dict[str, dict[str, Any]] = {
    "solids": {
        "vertices": _CUBE,
        "faces": _FACES,
        "lod": "off",
        "flat_shading": True,
        "cast_shadow": False,
        "receive_shadow": False,
    },
    "lines": {"thickness_units": "screen"},
    "points": {"point_shape": "circle", "point_shading": "flat"},
}


class Painter:
    """Painter of drawings below one node, which stands where the vehicle is."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._scene = server.scene
        self._root = server.scene.add_frame(ROOT, show_axes=False)
        self._nodes: dict[str, Any] = {}  # of the last drawing
        self._frusta: dict[str, viser.CameraFrustumHandle] = {}

    def node(self, name: str) -> Any:
        """Return a node of the last drawing, such as "solids/predicted_0"; None if it is empty."""
        handle = self._nodes.get(name)
        return handle if handle is not None and handle.visible else None

    def place(self, pose: Floats) -> None:
        """Put the vehicle at a pose of the scene, (4, 4)."""
        self._root.position = pose[:3, 3]
        self._root.wxyz = _wxyz(pose[:3, :3])

    def paint(self, drawing: Drawing) -> None:
        """Replace the last drawing; its texts are each browser's own."""
        painted = {
            *(
                self._paint("solids", solids.name, _solid_props(solids))
                for solids in drawing.solids
            ),
            *(self._paint("lines", lines.name, _line_props(lines)) for lines in drawing.lines),
            *(
                self._paint("points", points.name, _point_props(points))
                for points in drawing.points
            ),
        }
        for name in self._nodes.keys() - painted:
            if self._nodes[name].visible:
                self._nodes[name].visible = False

    def paint_cameras(self, moment: Moment, *, visible: bool) -> None:
        """Place the frusta of the cameras, with their pictures."""
        for camera in moment.cameras:
            image = thumbnail(camera, TEXTURE_PX) if visible else None
            self._frustum(camera, image, visible)
        for name in self._frusta.keys() - {camera.name for camera in moment.cameras}:
            self._frusta.pop(name).remove()

    def _frustum(self, camera: CameraView, image: NDArray[np.uint8] | None, visible: bool) -> None:
        handle = self._frusta.get(camera.name)
        if handle is None:
            width, height = camera.size_px
            handle = self._scene.add_camera_frustum(
                f"{ROOT}/cameras/{camera.name}",
                fov=2 * math.atan(height / 2 / float(camera.intrinsics[1, 1])),
                aspect=width / height,
                scale=_FRUSTUM_M,
                thickness=0.015,
                color=_FRUSTUM_COLOR,
                cast_shadow=False,
                receive_shadow=False,
            )
            self._frusta[camera.name] = handle
        if handle.visible != visible:
            handle.visible = visible
        if not visible:
            return
        handle.image = image
        handle.position = camera.ego_from_cam[:3, 3]
        handle.wxyz = _wxyz(camera.ego_from_cam[:3, :3])

    def _paint(self, kind: str, name: str, props: dict[str, Any]) -> str:
        """Show a group of primitives in the node of its name, which stays from frame to frame.

        A node that stays keeps its compiled shader: without a GPU, compiling takes seconds.
        """
        key = f"{kind}/{name}"
        handle = self._nodes.get(key)
        if handle is None:
            add = {
                "solids": self._scene.add_batched_meshes_simple,
                "lines": self._scene.add_line_segments,
                "points": self._scene.add_point_cloud,
            }[kind]
            self._nodes[key] = add(f"{ROOT}/{key}", **props, **_FIXED[kind])
            return key
        for field, value in props.items():
            if not np.array_equal(getattr(handle, field), value):
                setattr(handle, field, value)
        if not handle.visible:
            handle.visible = True
        return key


def _solid_props(solids: Solids) -> dict[str, Any]:
    half = solids.yaw_rad / 2
    zero = np.zeros_like(half)
    return {
        "batched_wxyzs": np.stack((np.cos(half), zero, zero, np.sin(half)), -1).astype(np.float32),
        "batched_positions": solids.center_m.astype(np.float32),
        "batched_scales": solids.size_m.astype(np.float32),
        "batched_colors": linear(solids.color),
        "opacity": None if solids.opacity >= 1 else solids.opacity,
        # Of very many, the plain shading halves the time of a browser without a GPU.
        "material": "toon3" if len(half) > MAX_EDGED else "standard",
    }


def _line_props(lines: Lines) -> dict[str, Any]:
    return {
        "points": lines.segments_m.astype(np.float32),
        "colors": np.repeat(linear(lines.color)[:, None], 2, axis=1),
        "thickness": lines.width_px,
    }


def _point_props(points: Points) -> dict[str, Any]:
    return {
        "points": points.points_m.astype(np.float16),
        "colors": points.color,
        "point_size": points.size_m,
    }


def linear(color: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the linear light of sRGB colours, which the browser's shaders take."""
    share = color.astype(np.float64) / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    whole: NDArray[np.uint8] = np.rint(255 * light).astype(np.uint8)
    return whole


def _wxyz(rotation: Floats) -> Floats:  # (3, 3) -> (4,)
    quaternion: Floats = quaternion_from_rotation(torch.from_numpy(rotation.copy())).numpy()
    return quaternion
