"""Controls beside the scene: time, boxes, layers, camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import viser

from bevstack.viewer.browser.style import PAGE
from bevstack.viewer.browser.viewer import Viewer
from bevstack.viewer.moment import Moment
from bevstack.viewer.panels import (
    counts_html,
    cue_html,
    details_html,
    legend_html,
    notes_html,
    progress_html,
)
from bevstack.viewer.view_state import (
    BY_CLASS,
    BY_ERROR,
    BY_IDENTITY,
    BY_MODEL,
    BY_SCORE,
    LAYERS,
    ViewState,
)

PANEL_PX = 350
_SPEEDS = {"0.25 x": 0.25, "0.5 x": 0.5, "1 x": 1.0, "2 x": 2.0, "5 x": 5.0, "10 x": 10.0}


class Controls:
    """Controls of a viewer, which all browsers share."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        gui = viewer.server.gui
        gui.main_panel.dock_right()
        gui.main_panel.set_width(PANEL_PX)
        gui.add_html(PAGE)
        self._cue = gui.add_html("", visible=False)
        self._notes = gui.add_html("", visible=False)
        self._add_time(gui)
        self._add_boxes(gui)
        with gui.add_folder("Picked box"):
            self._details = gui.add_html("")
        self._add_layers(gui)
        viewer.listeners.append(self._update)
        viewer.growth_listeners.append(self._grow)

    def _add_time(self, gui: viser.GuiApi) -> None:
        viewer, state = self._viewer, self._viewer.state
        with gui.add_folder("Time"):
            self._scene = gui.add_dropdown("Scene", viewer.source.scenes, initial_value=state.scene)
            self._frame = gui.add_slider(
                "Frame",
                viewer.first_index,
                _last(viewer, state.scene),
                1,
                min(state.index, _last(viewer, state.scene)),
            )
            self._play = gui.add_button("Play", icon=viser.Icon.PLAYER_PLAY)
            self._newest = gui.add_checkbox(
                "Newest frame", viewer.shows_newest, visible=viewer.is_growing
            )
            self._progress = gui.add_html("", visible=viewer.is_growing)
            steps = gui.add_button_group("Step", ("-10", "-1", "+1", "+10"))
            speed = gui.add_dropdown("Speed", tuple(_SPEEDS), initial_value="1 x")
            self._most = gui.add_button(
                "Frame with most errors",
                icon=viser.Icon.ALERT_TRIANGLE,
                visible=bool(viewer.source.distances_m),
            )
        self._scene.on_update(self._choose_scene)
        self._on_user(self._frame, lambda: viewer.go_to(int(self._frame.value)))
        self._on_user(self._newest, lambda: viewer.show_newest(bool(self._newest.value)))
        self._play.on_click(lambda _: self._toggle_play())
        steps.on_click(lambda _: viewer.step(int(steps.value)))
        speed.on_update(lambda _: setattr(viewer, "speed", _SPEEDS[speed.value]))
        self._most.on_click(lambda _: self._go_to_most_errors())

    def _add_boxes(self, gui: viser.GuiApi) -> None:
        viewer, state = self._viewer, self._viewer.state
        models = viewer.source.model_names
        with gui.add_folder("Boxes"):
            self._counts = gui.add_html("")
            self._score = gui.add_slider(
                "Score from", 0.0, 1.0, 0.01, state.min_score, visible=bool(models)
            )
            self._color = gui.add_dropdown(
                "Colour by", _colorings(viewer), initial_value=state.color_by
            )
            distances = tuple(f"{distance:g} m" for distance in viewer.source.distances_m)
            self._distance = gui.add_dropdown(
                "Match within",
                distances or ("2 m",),
                initial_value=f"{state.distance_m:g} m",
                visible=bool(distances),
            )
            self._model = gui.add_dropdown(
                "Errors of",
                models or ("",),
                initial_value=(models or ("",))[state.model],
                visible=bool(distances) and len(models) > 1,
            )
            self._legend = gui.add_html("")
            with gui.add_folder("Classes", expand_by_default=False):
                every = gui.add_button_group("Show", ("all", "none"))
                self._classes = [
                    gui.add_checkbox(name.replace("_", " "), label in state.labels)
                    for label, name in enumerate(viewer.source.class_names)
                ]
        self._on_user(self._score, lambda: self._change("min_score", float(self._score.value)))
        self._on_user(self._color, lambda: self._change("color_by", self._color.value))
        self._on_user(
            self._distance,
            lambda: self._change("distance_m", float(self._distance.value.removesuffix(" m"))),
        )
        self._on_user(self._model, lambda: self._change("model", models.index(self._model.value)))
        every.on_click(lambda _: self._switch_all(every.value == "all"))
        for box in self._classes:
            self._on_user(box, lambda: self._change("labels", self._labels()))

    def _add_layers(self, gui: viser.GuiApi) -> None:
        state = self._viewer.state
        first = self._viewer.moment(state.scene, state.index)
        absent = {"sectors"} if first.sectors is None and not self._viewer.is_growing else set()
        with gui.add_folder("Layers", expand_by_default=False):
            self._layers = {
                layer: gui.add_checkbox(name, layer in state.layers)
                for layer, name in LAYERS.items()
                if layer not in absent
            }
        for box in self._layers.values():
            self._on_user(box, lambda: self._change("layers", self._chosen_layers()))

    def _on_user(self, control: Any, act: Callable[[], None]) -> None:
        """Call a function after each action of a user, but not after one of this program.

        A coroutine runs where the action arrives: the actions of a slider that is dragged keep
        their order, and none reads a value that this program has set meanwhile.
        """

        async def on_update(event: Any) -> None:
            if event.client is not None:
                act()

        control.on_update(on_update)

    async def _choose_scene(self, event: Any) -> None:
        if event.client is not None:
            self._viewer.play(False)
            self._viewer.change(partial(replace, scene=self._scene.value, index=0, picked=None))

    def _change(self, field: str, value: Any) -> None:
        self._viewer.change(partial(replace, **{field: value}))

    def _toggle_play(self) -> None:
        moves = self._viewer.playing or self._viewer.shows_newest
        self._viewer.play(not moves)
        self._show_play()

    def _show_play(self) -> None:
        if self._newest.value != self._viewer.shows_newest:
            self._newest.value = self._viewer.shows_newest
        playing = self._viewer.playing or self._viewer.shows_newest
        label = "Pause" if playing else "Play"
        if self._play.label != label:
            self._play.label = label
            self._play.icon = viser.Icon.PLAYER_PAUSE if playing else viser.Icon.PLAYER_PLAY

    def _go_to_most_errors(self) -> None:
        """Go to the frame with most errors at the present score, in all scenes."""
        viewer, state = self._viewer, self._viewer.state
        counts = viewer.source.num_errors(state.model, state.distance_m, state.min_score)
        scene = max(counts, key=lambda name: max(counts[name]))
        viewer.play(False)
        viewer.change(partial(replace, scene=scene, index=counts[scene].index(max(counts[scene]))))

    def _switch_all(self, shown: bool) -> None:
        for box in self._classes:
            box.value = shown
        self._viewer.change(partial(replace, labels=self._labels()))

    def _labels(self) -> frozenset[int]:
        return frozenset(label for label, box in enumerate(self._classes) if box.value)

    def _chosen_layers(self) -> frozenset[str]:
        return frozenset(layer for layer, box in self._layers.items() if box.value)

    def _update(self, moment: Moment, state: ViewState) -> None:
        """Show the state in the controls; browsers get only what has changed."""
        # In the thread of the server, which also takes the users' actions: so none gets lost.
        self._viewer.server.get_event_loop().call_soon_threadsafe(self._show_values)
        cue, notes = cue_html(moment), notes_html(moment)
        for handle, content in (
            (self._cue, cue),
            (self._notes, notes),
            (self._counts, counts_html(moment, state)),
            (self._legend, legend_html(moment, state)),
            (self._details, details_html(moment, state)),
        ):
            if handle.content != content:
                handle.content = content
        for handle in (self._cue, self._notes):
            if handle.visible != bool(handle.content):
                handle.visible = bool(handle.content)
        self._show_play()

    def _grow(self) -> None:
        """Show the growth of the source."""
        self._viewer.server.get_event_loop().call_soon_threadsafe(self._show_values)
        self._progress.content = progress_html(self._viewer.progress)
        self._show_play()

    def _fit_timeline(self, state: ViewState) -> None:
        first, last = self._viewer.first_index, _last(self._viewer, state.scene)
        if (self._frame.min, self._frame.max) != (first, last):
            self._frame.max = last
            if self._frame.value < first:
                self._frame.value = first
            self._frame.min = first

    def _show_values(self) -> None:
        """Show the newest state in the controls."""
        state = self._viewer.state
        self._fit_timeline(state)
        values: list[tuple[Any, Any]] = [
            (self._frame, state.index),
            (self._scene, state.scene),
            (self._score, state.min_score),
            (self._color, state.color_by),
            *((box, label in state.labels) for label, box in enumerate(self._classes)),
            *((box, layer in state.layers) for layer, box in self._layers.items()),
        ]
        for handle, value in values:
            if handle.value != value:
                handle.value = value


def _last(viewer: Viewer, scene: str) -> int:
    """Return the greatest value of the timeline; a slider needs one above its least."""
    return max(viewer.source.count(scene) - 1, viewer.first_index + 1)


def _colorings(viewer: Viewer) -> tuple[str, ...]:
    """Return the colourings that mean something for the source."""
    found = [BY_CLASS, BY_IDENTITY]
    if viewer.source.model_names:
        found.append(BY_SCORE)
    if viewer.source.distances_m:
        found.append(BY_ERROR)
    if len(viewer.source.model_names) > 1:
        found.append(BY_MODEL)
    return tuple(found)
