"""Drawings in Open3D: pictures without a display, and a window where there is one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.render.colors import BACKGROUND, RGB, WHITE
from bevstack.viewer.label_layout import anchors, box_obstacles, lay_out
from bevstack.viewer.moment import Floats
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.primitives import Drawing, Lines, Points, Solids

_PROBE = """
import open3d
renderer = open3d.visualization.rendering.OffscreenRenderer(32, 32)
renderer.render_to_image()
"""
_CHATTER = ("FEngine", "Using '", "Backend ", "Selected ", "Vulkan device driver")
_PROBE_S = 120.0
_LETTER_PX = (7.0, 18.0)  # of the window's texts: width of most letters, and height of a line
# Text in the output of a failed probe -> Debian's packages that hold what is missing.
_MISSING = (
    ("libusb", "libusb-1.0-0"),
    ("libgomp", "libgomp1"),
    ("libX11", "libx11-6"),
    ("libEGL", "libegl1"),
    ("libGL", "libgl1"),
    ("vulkan", "libvulkan1 mesa-vulkan-drivers"),
)
_DRIVERS = "libvulkan1 mesa-vulkan-drivers"
_CORNERS = np.array(
    [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float64
)
_TRIANGLES = np.array(
    [
        *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5)),
        *((0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6)),
        *((0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)),
    ],
    np.int32,
)


def is_installed() -> bool:
    """Return True if Open3D is installed, whether or not it can draw here."""
    import importlib.util

    return importlib.util.find_spec("open3d") is not None


def check_drawing() -> None:
    """Draw a small picture in a child process, so that a crash of a driver ends that one alone.

    Raises:
        ValueError: Open3D cannot draw here; names Debian's package that is missing.
    """
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"Open3D must draw a small picture within {_PROBE_S:.0f} s; got none: leave Open3D out "
            "with --renderer opencv"
        ) from None
    if done.returncode == 0:
        return
    output = re.sub(r"\x1b\[[\d;]*m", "", done.stderr + done.stdout)  # without colours
    packages = next((p for text, p in _MISSING if text.lower() in output.lower()), _DRIVERS)
    lines = [line for line in output.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_CHATTER)] or lines
    reason = lines[-1].strip() if lines else f"the end of the process by signal {-done.returncode}"
    raise ValueError(
        f"Open3D must be able to draw here; got {reason[:200]}: apt-get install {packages}, or "
        "leave Open3D out with --renderer opencv"
    )


class PictureRenderer:
    """Renderer of drawings into pictures of one size, without a display."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        from open3d.visualization import rendering

        self.size_px = size_px
        self._renderer = rendering.OffscreenRenderer(*size_px)
        _prepare(self._renderer.scene)

    def render(self, drawing: Drawing, pinhole: Pinhole) -> NDArray[np.uint8]:  # (H, W, 3) RGB
        """Return the picture of a drawing."""
        scene = self._renderer.scene
        scene.clear_geometry()
        add_drawing(scene, drawing)
        self._renderer.setup_camera(
            pinhole.intrinsics, pinhole.cam_from_ego, pinhole.size_px[0], pinhole.size_px[1]
        )
        return np.array(self._renderer.render_to_image(), np.uint8)[..., :3]


def add_drawing(scene: Any, drawing: Drawing) -> None:
    """Add the primitives of a drawing to a scene of Open3D."""
    for lines in drawing.lines:
        scene.add_geometry(f"lines {lines.name}", _line_set(lines), _line_material(lines.width_px))
    for solids in drawing.solids:
        scene.add_geometry(f"solids {solids.name}", _mesh(solids), _solid_material())
    for points in drawing.points:
        scene.add_geometry(f"points {points.name}", _cloud(points), _point_material())


def show_window(drawing: Drawing, title: str, pinhole: Pinhole) -> None:
    """Show a drawing in a window until it is closed or interrupted; the mouse turns it."""
    from open3d.visualization import gui, rendering

    application = gui.Application.instance
    application.initialize()
    window = application.create_window(title, *pinhole.size_px)
    widget = gui.SceneWidget()
    widget.scene = rendering.Open3DScene(window.renderer)
    _prepare(widget.scene)
    add_drawing(widget.scene, drawing)
    window.add_child(widget)
    widget.setup_camera(
        pinhole.intrinsics,
        pinhole.cam_from_ego,
        pinhole.size_px[0],
        pinhole.size_px[1],
        widget.scene.bounding_box,
    )
    for words, place_m in _window_texts(drawing, pinhole):
        label = widget.add_3d_label(place_m, words)
        label.color = gui.Color(*_share(WHITE))
    try:
        while application.run_one_tick():  # its whole loop would not notice an interrupt
            pass
    finally:
        application.quit()


def _window_texts(drawing: Drawing, pinhole: Pinhole) -> Iterator[tuple[str, Floats]]:
    """Yield texts with the places of their upper left corners, apart from each other at first."""
    places_m = np.array([text.place_m for text in drawing.texts], np.float64).reshape(-1, 3)
    width, height = _LETTER_PX
    found = lay_out(
        anchors(places_m, pinhole),
        [(width * len(text.text), height) for text in drawing.texts],
        box_obstacles(drawing, pinhole),
        pinhole.size_px,
    )
    depth = pinhole.to_camera(places_m)[:, 2:]
    pose = pinhole.cam_from_ego
    for text, place, depth_m in zip(drawing.texts, found, depth, strict=True):
        if place is not None:
            ray = np.linalg.inv(pinhole.intrinsics) @ (place.left, place.top, 1.0)
            yield text.text, pose[:3, :3].T @ (depth_m * ray - pose[:3, 3])


def _prepare(scene: Any) -> None:
    scene.set_background([*_share(BACKGROUND), 1.0])
    scene.view.set_post_processing(False)  # it would wash the colours out


def _line_set(lines: Lines) -> Any:
    import open3d

    count = len(lines.segments_m)
    built = open3d.geometry.LineSet()
    built.points = open3d.utility.Vector3dVector(lines.segments_m.reshape(-1, 3))
    built.lines = open3d.utility.Vector2iVector(np.arange(2 * count, dtype=np.int32).reshape(-1, 2))
    built.colors = open3d.utility.Vector3dVector(lines.color / 255.0)
    return built


def _mesh(solids: Solids) -> Any:
    import open3d

    vertices, triangles, color = solid_triangles(solids)
    built = open3d.geometry.TriangleMesh()
    built.vertices = open3d.utility.Vector3dVector(vertices)
    built.triangles = open3d.utility.Vector3iVector(triangles)
    built.vertex_colors = open3d.utility.Vector3dVector(color)
    built.compute_vertex_normals()
    return built


def solid_triangles(solids: Solids) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Return vertices (8 D, 3), triangles (12 D, 3) and the colours of vertices, 0 to 1.

    Transparent solids get the colour that they have before the background. On a machine without a
    GPU, Open3D's own transparency takes half a minute a frame beside lines, and without lights it
    ends the process (0.20.0 on llvmpipe).
    """
    local = _CORNERS * solids.size_m[:, None]
    cos, sin = np.cos(solids.yaw_rad)[:, None], np.sin(solids.yaw_rad)[:, None]
    x = cos * local[..., 0] - sin * local[..., 1]
    y = sin * local[..., 0] + cos * local[..., 1]
    vertices = np.stack((x, y, local[..., 2]), -1) + solids.center_m[:, None]
    first = 8 * np.arange(len(solids.center_m), dtype=np.int32)[:, None, None]
    triangles = (_TRIANGLES + first).reshape(-1, 3).astype(np.int32)
    shade = np.where(_CORNERS[:, 2] > 0, 1.0, 0.7)  # darker below, as without lights
    color = (solids.color[:, None] / 255.0) * shade[:, None]
    color = solids.opacity * color + (1 - solids.opacity) * np.array(_share(BACKGROUND))
    return vertices.reshape(-1, 3), triangles, color.reshape(-1, 3)


def _cloud(points: Points) -> Any:
    import open3d

    built = open3d.geometry.PointCloud()
    built.points = open3d.utility.Vector3dVector(points.points_m)
    built.colors = open3d.utility.Vector3dVector(points.color / 255.0)
    return built


def _line_material(width_px: float) -> Any:
    from open3d.visualization import rendering

    material = rendering.MaterialRecord()
    material.shader, material.line_width = "unlitLine", width_px
    return material


def _solid_material() -> Any:
    from open3d.visualization import rendering

    material = rendering.MaterialRecord()
    material.shader = "defaultUnlit"
    return material


def _point_material() -> Any:
    from open3d.visualization import rendering

    material = rendering.MaterialRecord()
    material.shader, material.point_size = "defaultUnlit", 2.0
    return material


def _share(color: RGB) -> list[float]:
    return [channel / 255 for channel in color]
