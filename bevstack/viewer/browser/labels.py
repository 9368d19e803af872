"""Texts in the scene of one browser, laid out for its camera."""

from __future__ import annotations

import math
import threading

import numpy as np
import viser

from bevstack.viewer.drawn import RINGS_M
from bevstack.viewer.label_layout import Place, anchors, box_obstacles, lay_out
from bevstack.viewer.moment import Floats
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.primitives import Drawing, Text
from bevstack.viewer.view_state import Eye

_EM_PX = 13.2  # size of the letters
_SCALE = _EM_PX / 12.0  # viser's own letters have 12 px
_WIDTH, _HEIGHT = 0.62, 1.6  # of a letter with its share of the plate, in em; few letters are wider
_RING_RAD = -0.6  # bearing of the texts of the rings


class Labels:
    """Texts of one browser; those that would lie over another one are left out.

    Browsers stand at different places, so each has texts of its own.
    """

    def __init__(self, client: viser.ClientHandle) -> None:
        self._client = client
        self._handles: dict[str, viser.LabelHandle] = {}
        self._lock = threading.Lock()  # moments and cameras change in different threads
        self._drawn: tuple[Drawing, Floats] | None = None
        self.shown: dict[str, Place] = {}  # rectangles of the texts that are shown, by name

    def show(self, drawing: Drawing, pose: Floats) -> None:
        """Show the texts of a drawing whose vehicle is at a pose of the scene, (4, 4)."""
        with self._lock:
            self._drawn = drawing, pose
        self.arrange()

    def arrange(self) -> None:
        """Arrange the texts for the present camera."""
        with self._lock:
            if self._drawn is None:
                return
            drawing, pose = self._drawn
            texts = [*drawing.texts, *_ring_texts(drawing)]
            places_m = np.array([text.place_m for text in texts], np.float64).reshape(-1, 3)
            pinhole = self._pinhole(pose)
            found = lay_out(
                anchors(places_m, pinhole),
                [(_EM_PX * _WIDTH * len(text.text), _EM_PX * _HEIGHT) for text in texts],
                box_obstacles(drawing, pinhole),
                pinhole.size_px,
            )
            in_scene = places_m @ pose[:3, :3].T + pose[:3, 3]
            kept: dict[str, Place] = {}
            for text, place, place_m in zip(texts, found, in_scene, strict=True):
                if place is not None:
                    self._write(text, place.anchor, place_m)
                    kept[text.name] = place
            for name in self._handles.keys() - kept.keys():
                if self._handles[name].visible:
                    self._handles[name].visible = False
            self.shown = kept

    def _pinhole(self, pose: Floats) -> Pinhole:
        """Return the browser's camera in the ego frame."""
        camera = self._client.camera
        inverse = np.linalg.inv(pose)
        position, look_at = (
            tuple((inverse[:3, :3] @ point + inverse[:3, 3]).tolist())
            for point in (camera.position, camera.look_at)
        )
        size_px = (camera.image_width, camera.image_height)
        return Pinhole(Eye(position_m=position, look_at_m=look_at), size_px, camera.fov)

    def _write(self, text: Text, anchor: str, place_m: Floats) -> None:
        handle = self._handles.get(text.name)
        if handle is None:
            self._handles[text.name] = self._client.scene.add_label(
                f"/labels/{text.name}",
                text.text,
                position=place_m,
                anchor=anchor,
                font_screen_scale=_SCALE,
            )
            return
        if handle.text != text.text:
            handle.text = text.text
        if handle.anchor != anchor:
            handle.anchor = anchor
        if not np.array_equal(handle.position, place_m):
            handle.position = place_m
        if not handle.visible:
            handle.visible = True


def _ring_texts(drawing: Drawing) -> list[Text]:
    """Return the radii of the rings, if there are rings."""
    if not any(lines.name == "rings" for lines in drawing.lines):
        return []
    x, y = math.cos(_RING_RAD), math.sin(_RING_RAD)
    return [
        Text(name=f"rings/{r:g}", text=f"{r:g} m", place_m=(r * x, r * y, 0.0)) for r in RINGS_M
    ]
