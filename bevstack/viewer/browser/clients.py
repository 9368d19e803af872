"""Parts of the viewer that each browser has for itself: its camera, clicks, strip and buttons."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import viser

from bevstack.viewer.browser.labels import Labels
from bevstack.viewer.browser.style import room_below_scene
from bevstack.viewer.browser.viewer import Viewer
from bevstack.viewer.moment import Floats, Moment
from bevstack.viewer.picking import pick
from bevstack.viewer.strip import strip_html
from bevstack.viewer.view_state import Eye, ViewState

# Named places of the camera in the ego frame: position and the point that it looks at.
VIEWS: dict[str, Eye] = {
    "behind": Eye(),
    "top": Eye(position_m=(-0.5, 0.0, 62.0), look_at_m=(0.0, 0.0, 0.0)),
    "front": Eye(position_m=(24.0, 0.0, 12.0), look_at_m=(0.0, 0.0, 0.0)),
    "side": Eye(position_m=(0.0, -26.0, 12.0), look_at_m=(4.0, 0.0, 0.0)),
}
_GAP_PX = 10
_STRIP_HEAD_PX = 44  # of the strip's panel above the pictures
_RENDER_TIMEOUT_S = 120.0  # without a GPU, compiling shaders takes seconds

# Selects and copies the command line: the clipboard's newer interface needs HTTPS or loopback.
_COPY = (
    "getSelection().selectAllChildren(document.getElementById('command'));"
    "this.innerText=document.execCommand('copy')?'copied':'press Ctrl-C'"
)

Command = Callable[[ViewState, Eye], str]


class Clients:
    """Connected browsers of a viewer.

    Args:
        viewer: the viewer.
        command: returns the command line that shows a state from a camera.
    """

    def __init__(self, viewer: Viewer, command: Command) -> None:
        self._viewer = viewer
        self._command = command
        self._strips: dict[int, _Strip] = {}
        self._labels: dict[int, Labels] = {}
        gui = viewer.server.gui
        with gui.add_folder("Camera"):
            self._follow = gui.add_checkbox("follow the vehicle", viewer.state.follow)
            views = gui.add_button_group("View", tuple(VIEWS))
            save = gui.add_button("Save a picture", icon=viser.Icon.PHOTO)
            copy = gui.add_button("Command line of this view", icon=viser.Icon.TERMINAL_2)
        self._follow.on_update(self._switch_follow)
        views.on_click(lambda event: self._look(event.client, VIEWS[views.value]))
        save.on_click(lambda event: self._save(event.client))
        copy.on_click(lambda event: self._show_command(event.client))
        viewer.server.scene.on_click()(self._click)
        viewer.server.on_client_connect(self._connect)
        viewer.server.on_client_disconnect(self._disconnect)
        viewer.listeners.append(self._update)

    def labels_of(self, client: viser.ClientHandle) -> Labels:
        """Return the texts in the scene of a browser."""
        return self._labels[client.client_id]

    def _connect(self, client: viser.ClientHandle) -> None:
        strip, labels = _Strip(client), Labels(client)
        self._strips[client.client_id], self._labels[client.client_id] = strip, labels
        if self._viewer.shown is not None:
            strip.show(*self._viewer.shown)
            labels.show(self._viewer.drawing, self._viewer.pose(*self._viewer.shown))

        def on_camera(camera: viser.CameraHandle) -> None:
            strip.fit(camera.image_width)
            labels.arrange()

        client.camera.on_update(on_camera)

    def _disconnect(self, client: viser.ClientHandle) -> None:
        for parts in (self._strips, self._labels):
            parts.pop(client.client_id, None)

    def _update(self, moment: Moment, state: ViewState) -> None:
        pose, drawing = self._viewer.pose(moment, state), self._viewer.drawing
        for labels in list(self._labels.values()):
            labels.show(drawing, pose)
        for strip in list(self._strips.values()):
            strip.show(moment, state)

    def _click(self, event: viser.SceneClickEvent) -> None:
        """Select the first box on the ray of a click, or none."""
        if self._viewer.shown is None:
            return
        moment, state = self._viewer.shown
        pose = self._viewer.pose(moment, state)
        origin = pose[:3, :3].T @ (np.array(event.ray_origin) - pose[:3, 3])
        direction = pose[:3, :3].T @ np.array(event.ray_direction)
        picked = pick(moment, state, origin, direction)
        self._viewer.change(partial(replace, picked=picked))

    def _switch_follow(self, event: Any) -> None:
        """Let the camera follow the vehicle or stay; what it sees stays the same at first."""
        if event.client is None or self._viewer.shown is None:
            return
        moment, state = self._viewer.shown
        follow = bool(self._follow.value)
        before = self._viewer.pose(moment, state)
        self._viewer.change(partial(replace, follow=follow))
        after = self._viewer.pose(moment, self._viewer.state)
        moved = after @ np.linalg.inv(before)
        for client in self._viewer.server.get_clients().values():
            camera = client.camera
            position, look_at = (_moved(moved, p) for p in (camera.position, camera.look_at))
            camera.position, camera.look_at = position, look_at

    def _look(self, client: viser.ClientHandle | None, eye: Eye) -> None:
        if client is None or self._viewer.shown is None:
            return
        pose = self._viewer.pose(*self._viewer.shown)
        client.camera.position = _moved(pose, np.array(eye.position_m))
        client.camera.look_at = _moved(pose, np.array(eye.look_at_m))

    def _save(self, client: viser.ClientHandle | None) -> None:
        """Send a picture of the scene, as this browser sees it, to the browser as a file."""
        if client is None or self._viewer.shown is None:
            return
        moment, _ = self._viewer.shown
        height, width = client.camera.image_height, client.camera.image_width
        try:
            image = client.get_render(
                height, width, transport_format="png", timeout=_RENDER_TIMEOUT_S
            )
        except (TimeoutError, RuntimeError) as error:  # the browser is too slow, or cannot
            text = f"{error} Make the window smaller, or use --save."
            client.add_notification("Cannot save a picture", text, color="red")
            return
        done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., 2::-1]))
        assert done  # an array of bytes is always encoded
        name = f"{moment.scene}_{moment.index:03d}.png"
        client.send_file_download(name, bytes(data), save_immediately=True)

    def _show_command(self, client: viser.ClientHandle | None) -> None:
        """Show the command line that brings this view back, with a button that copies it."""
        if client is None:
            return
        line = self._command(self._viewer.state, self._eye(client))
        with client.gui.add_modal("Command line of this view") as modal:
            client.gui.add_html(
                f'<pre id="command" style="white-space:pre-wrap;font-size:13px;'
                f'user-select:all">{html.escape(line)}</pre>'
                '<button id="copy" style="font:14px sans-serif;padding:4px 12px" '
                f'onclick="{html.escape(_COPY)}">copy</button>'
            )
            client.gui.add_button("Close").on_click(lambda _: modal.close())

    def _eye(self, client: viser.ClientHandle) -> Eye:
        """Return a browser's camera in the ego frame, in which the command line gives it."""
        pose = np.eye(4)
        if self._viewer.shown is not None:
            pose = np.linalg.inv(self._viewer.pose(*self._viewer.shown))
        points = (client.camera.position, client.camera.look_at)
        position, look_at = (np.round(_moved(pose, point), 2).tolist() for point in points)
        return Eye(position_m=tuple(position), look_at_m=tuple(look_at))


class _Strip:
    """Panel with the camera pictures at the bottom of one browser."""

    def __init__(self, client: viser.ClientHandle) -> None:
        self._panel = client.gui.add_panel()
        with self._panel.add_tab("Cameras", viser.Icon.CAMERA):
            self._html = client.gui.add_html("")
            self._room = client.gui.add_html("")
        self._width_px = 0
        self._aspect = 6 * 16 / 9  # width / height of all pictures in a row
        self.fit(client.camera.image_width)

    def fit(self, width_px: int) -> None:
        """Fit the panel to the width of the scene."""
        if width_px == self._width_px:
            return
        self._width_px = width_px
        width = max(width_px - 2 * _GAP_PX, 320)
        height = round(width / self._aspect) + _STRIP_HEAD_PX + _GAP_PX
        self._panel.float(x=_GAP_PX, y=-_GAP_PX, width=float(width), height=float(height))
        self._room.content = room_below_scene(height + 2 * _GAP_PX)

    def show(self, moment: Moment, state: ViewState) -> None:
        """Show the pictures of a moment."""
        if self._panel.visible != bool(moment.cameras):
            self._panel.visible = bool(moment.cameras)
        aspect = sum(c.size_px[0] / c.size_px[1] for c in moment.cameras)
        if moment.cameras and aspect != self._aspect:
            width_px, self._aspect, self._width_px = self._width_px, aspect, 0
            self.fit(width_px)
        content = strip_html(moment, state)
        if self._html.content != content:
            self._html.content = content


def _moved(pose: Floats, point_m: Floats) -> Floats:
    moved: Floats = pose[:3, :3] @ point_m + pose[:3, 3]
    return moved
