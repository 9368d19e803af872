"""The viewer: one state, one thread that shows it, and the server whose browsers all see it."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import viser

from bevstack.viewer.browser.painter import Painter
from bevstack.viewer.browser.server import start_server, stop_server
from bevstack.viewer.drawn import draw
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.moment import Floats, Moment
from bevstack.viewer.pinhole import FIELD_RAD
from bevstack.viewer.primitives import Drawing
from bevstack.viewer.source import MomentSource
from bevstack.viewer.view_state import ViewState

_LOG = logging.getLogger(__name__)
_KEPT_MOMENTS = 64
_POLL_S = 0.2  # between two looks for new moments of a live source
_LONGEST_STEP_S, _DEFAULT_STEP_S = 2.0, 0.5  # of playing, between two moments

Listener = Callable[[Moment, ViewState], None]
Edit = Callable[[ViewState], ViewState]


class Viewer:
    """Server that shows moments of a source in every browser that opens it.

    Changes of the state are shown by one thread, so that a newer state replaces one that waits.

    Args:
        source: the moments.
        state: what is shown first.
        host: address to listen on; anything but loopback lets other machines look.
        port: of the server; 0: a free one.

    Raises:
        ValueError: the port is in use.
    """

    def __init__(
        self, source: MomentSource, state: ViewState, *, host: str = "127.0.0.1", port: int = 8080
    ) -> None:
        self.source = source
        self.server: viser.ViserServer = start_server(host, port)
        self.painter = Painter(self.server)
        self._speed, self._step_s, self._step_start_s = 1.0, 0.0, 0.0
        self.listeners: list[Listener] = []  # called after each moment that is shown
        self.growth_listeners: list[Callable[[], None]] = []  # called when the source has grown
        self._growing = source if isinstance(source, GrowingDrive) else None
        self._newest = False
        self._last_growth: object = None
        self._origins: dict[str, Floats | None] = {}  # first pose of each scene
        self._host = host
        self._state = state
        self._playing = False
        self._shown: tuple[Moment, ViewState] | None = None
        self._drawing = Drawing()
        self._moments: OrderedDict[tuple[str, int], Moment] = OrderedDict()
        self._lock, self._wake, self._stopped = threading.RLock(), threading.Event(), False
        self._worker = threading.Thread(target=self._run, name="viewer", daemon=True)
        camera = self.server.initial_camera
        camera.position, camera.look_at = state.eye.position_m, state.eye.look_at_m
        camera.fov = FIELD_RAD  # as in saved pictures

    @property
    def address(self) -> str:
        """Return the address to open in a browser."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.server.get_port()}"

    @property
    def state(self) -> ViewState:
        """Return the state that is shown, or will be next."""
        return self._state

    @property
    def shown(self) -> tuple[Moment, ViewState] | None:
        """Return the moment and the state that were shown last."""
        return self._shown

    @property
    def drawing(self) -> Drawing:
        """Return the drawing that was shown last."""
        return self._drawing

    @property
    def playing(self) -> bool:
        """Return True while the moments follow each other by themselves."""
        return self._playing

    @property
    def shows_newest(self) -> bool:
        """Return True while the newest moment of a growing source is shown."""
        return self._newest

    @property
    def progress(self) -> str:
        """Return a line on the growth of the source; "" if it does not grow."""
        return "" if self._growing is None else self._growing.progress

    @property
    def is_growing(self) -> bool:
        """Return True if the source is of the kind that grows."""
        return self._growing is not None

    @property
    def first_index(self) -> int:
        """Return the index of the earliest moment of the scene that is kept."""
        return 0 if self._growing is None else self._growing.first()

    @property
    def speed(self) -> float:
        """Return the speed of playing, 1 in real time."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        """Set the speed; it holds for the present frame, too."""
        self._speed = speed
        self._wake.set()

    def start(self) -> None:
        """Show the first moment and start the thread."""
        self._show(self._state)
        self._worker.start()

    def stop(self) -> None:
        """Stop the thread and the server, and close its port."""
        self._stopped = True
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join(timeout=10.0)
        stop_server(self.server)

    def wait(self) -> None:
        """Wait until the thread ends, such as after an interrupt."""
        while self._worker.is_alive():
            self._worker.join(timeout=0.5)

    def change(self, edit: Edit) -> None:
        """Change the state, such as by ``partial(replace, index=3)``."""
        with self._lock:
            self._state = edit(self._state)
        self._wake.set()

    def step(self, steps: int) -> None:
        """Go some moments forward, or back if negative, within the scene."""
        last = self.source.count(self._state.scene) - 1
        self.go_to(min(max(self._state.index + steps, self.first_index), last))

    def go_to(self, index: int) -> None:
        """Go to a moment of the scene, and stay there while the source grows."""
        self._newest = False
        self.change(partial(replace, index=index))

    def show_newest(self, newest: bool) -> None:
        """Show the newest moment of a growing source from now on, or stay at the present one."""
        self._newest = newest and self._growing is not None
        if self._newest:
            self._playing = False
        self._wake.set()

    def play(self, playing: bool) -> None:
        """Start or stop to play; at the end of a scene, start at its beginning."""
        at_end = self._state.index >= self.source.count(self._state.scene) - 1
        if playing and at_end:
            self.go_to(self.first_index)
        self._newest = False
        self._step_start_s = time.monotonic()
        self._step_s = _DEFAULT_STEP_S if at_end else 0.0
        self._playing = playing
        self._wake.set()

    def moment(self, scene: str, index: int) -> Moment:
        """Return a moment, from memory if it was read before."""
        key = (scene, index)
        if key not in self._moments:
            self._moments[key] = self.source.moment(scene, index)
            while len(self._moments) > _KEPT_MOMENTS:
                self._moments.popitem(last=False)
        return self._moments[key]

    def pose(self, moment: Moment, state: ViewState) -> Floats:  # (4, 4)
        """Return the place of the vehicle in the scene: the origin if the camera follows it."""
        if state.follow or moment.world_from_ego is None:
            return np.eye(4)
        if moment.scene not in self._origins:
            start = self.moment(moment.scene, self.first_index)
            self._origins[moment.scene] = start.world_from_ego
        first = self._origins[moment.scene]
        return np.eye(4) if first is None else np.linalg.inv(first) @ moment.world_from_ego

    def _run(self) -> None:
        while not self._stopped:
            woken = self._wake.wait(self._wait_s() if self._playing else _POLL_S)
            self._wake.clear()
            if self._stopped:
                return
            self._grow()
            if self._playing and not self._wait_s() and self._is_shown():
                self._advance()
            if woken or self._shown is None or self._shown[1] != self._state:
                try:
                    self._show(self._state)
                except (ValueError, OSError) as error:
                    self._report(error)

    def _grow(self) -> None:
        """Follow a growing source: go to its newest moment, or to the earliest one kept."""
        if self._growing is None:
            return
        first, last = self.first_index, self.source.count(self._state.scene) - 1
        if self._newest or self._state.index < first:
            index = last if self._newest else first
            if index != self._state.index:
                self.change(partial(replace, index=index))
            elif self._growing.has_ended:
                self._newest = False  # nothing more will come
        growth = (last, self._growing.progress)
        if growth != self._last_growth:
            self._last_growth = growth
            for listener in self.growth_listeners:
                listener()

    def _wait_s(self) -> float:
        """Return the time until the next moment is due."""
        return max(self._step_start_s + self._step_s / self._speed - time.monotonic(), 0.0)

    def _is_shown(self) -> bool:
        """Return True if the present moment was drawn, so that a busy machine leaves none out."""
        shown = None if self._shown is None else self._shown[1]
        return shown is not None and (shown.scene, shown.index) == (
            self._state.scene,
            self._state.index,
        )

    def _advance(self) -> None:
        """Go to the next moment, or stop at the last."""
        state, self._step_start_s = self._state, time.monotonic()
        if state.index + 1 >= self.source.count(state.scene):
            self._playing = False
            self._newest = self._growing is not None
            self._wake.set()  # the controls show it
            return
        now = self.moment(state.scene, state.index).timestamp_us
        self.change(partial(replace, index=state.index + 1))
        step_s = (self.moment(state.scene, state.index + 1).timestamp_us - now) * 1e-6
        self._step_s = step_s if 0 < step_s <= _LONGEST_STEP_S else _DEFAULT_STEP_S

    def _show(self, state: ViewState) -> None:
        moment = self.moment(state.scene, state.index)
        visible = "cameras" in state.layers
        same = self._shown is not None and self._shown[0] is moment
        cameras_stay = same and self._shown is not None and self._shown[1].layers == state.layers
        with self.server.atomic():
            self.painter.place(self.pose(moment, state))
            self._drawing = draw(moment, state)
            self.painter.paint(self._drawing)
            if not cameras_stay:
                self.painter.paint_cameras(moment, visible=visible)
        self._shown = (moment, state)
        for listener in self.listeners:
            listener(moment, state)

    def _report(self, error: Exception) -> None:
        """Show an error in every browser, and stop playing."""
        self._playing = False
        self._shown = (self._shown[0], self._state) if self._shown else None
        _LOG.warning("%s", error)
        for client in self.server.get_clients().values():
            client.add_notification("Cannot show this frame", str(error), color="red")
