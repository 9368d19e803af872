"""Time in headless Chromium: play, pause, steps, the worst frame, and two browsers at once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tests.viewer.browser.chromium import Chromium, Tab
from tests.viewer.browser.pages import (
    client_of,
    painted_boxes,
    pictures_of,
    press,
    set_value,
    shown_boxes,
    value_of,
    wait_until,
)


def test_steps_play_and_pause_move_through_the_scene(viewer: Any, tab: Tab) -> None:
    page = tab.page
    for name, index in (("+1", 1), ("+1", 2), ("-1", 1), ("+10", 3), ("-10", 0)):
        press(page, name)
        wait_until(lambda index=index: viewer.shown[0].index == index, f"{name} does nothing")
    seen: list[int] = []
    viewer.listeners.append(lambda moment, state: seen.append(moment.index))
    viewer.speed = 0.01  # 50 s from frame to frame
    press(page, "Play")
    wait_until(lambda: viewer.playing and viewer.shown[0].index == 1, "the button does not play")
    press(page, "Pause")
    wait_until(lambda: not viewer.playing, "the button does not pause")
    press(page, "Play")
    wait_until(lambda: viewer.shown[0].index == 2, "the button does not play on")
    viewer.speed = 10.0  # holds at once
    wait_until(lambda: viewer.shown[0].index == 3 and not viewer.playing, "it does not go on")
    viewer.listeners.pop()
    assert list(dict.fromkeys(seen)) == [0, 1, 2, 3]  # a frame may be shown twice
    wait_until(lambda: value_of(page, "Frame") == "3", "the slider does not follow")
    again: list[int] = []
    viewer.listeners.append(lambda moment, state: again.append(moment.index))
    press(page, "Play")  # at the end: from the beginning
    wait_until(lambda: 0 in again, "it does not restart")
    wait_until(lambda: again[-1] == 3 and not viewer.playing, "it does not end")
    viewer.listeners.pop()


def test_a_busy_machine_leaves_no_moment_out(viewer: Any, tab: Tab) -> None:
    last = viewer.source.count(viewer.state.scene) - 1
    seen: list[int] = []
    viewer.go_to(last)
    wait_until(lambda: viewer.shown[0].index == last, "the last moment is not shown")
    viewer.speed = 10.0  # 0.05 s from moment to moment

    def note(moment: Any, state: Any) -> None:
        seen.append(moment.index)
        time.sleep(0.3)  # a drawing that takes longer than a step

    viewer.listeners.append(note)
    try:
        viewer.go_to(last - 1)
        wait_until(lambda: bool(seen), "the step does nothing")
        viewer.go_to(last)
        viewer.play(True)  # while the thread draws
        wait_until(lambda: last in seen[1:] and not viewer.playing, "it does not play")
    finally:
        viewer.listeners.remove(note)
    assert list(dict.fromkeys(seen[1:])) == list(range(last + 1))


def test_the_frame_with_most_errors_is_found(viewer: Any, tab: Tab) -> None:
    press(tab.page, "Frame with most errors")
    errors = {}
    for scene in viewer.source.scenes:
        for index in range(viewer.source.count(scene)):
            moment = viewer.source.moment(scene, index)
            kinds = moment.predicted_kinds(0, 2.0).tolist()
            missed = moment.true_kinds(0, 2.0, 0.0).tolist()
            errors[scene, index] = kinds.count(2) + missed.count(4)
    most = max(errors.values())
    worst = {place for place, count in errors.items() if count == most}
    wait_until(lambda: (viewer.shown[0].scene, viewer.shown[0].index) in worst, f"not at {worst}")
    assert len(set(errors.values())) > 1


def test_two_browsers_share_the_frame_and_keep_their_cameras(
    viewer: Any, tab: Tab, browser: Chromium
) -> None:
    second = browser.open(viewer.address)
    wait_until(lambda: len(viewer.server.get_clients()) == 2, "the second browser is not there")
    first_client = client_of(viewer)
    before = np.array(first_client.camera.position)
    press(second.page, "top")
    clients = viewer.server.get_clients()
    other = clients[max(clients)]
    wait_until(lambda: other.camera.position[2] > 50, "the camera does not move")
    assert first_client.camera.position == pytest.approx(before)
    set_value(second.page, "Frame", "2")
    wait_until(lambda: viewer.shown[0].index == 2, "the second slider does nothing")
    encoded = {camera.encoded for camera in viewer.shown[0].cameras}
    for page in (tab.page, second.page):
        wait_until(lambda page=page: value_of(page, "Frame") == "2", "a slider stays behind")
        wait_until(lambda page=page: set(pictures_of(page)) == encoded, "a strip stays behind")
    assert painted_boxes(viewer) == pytest.approx(shown_boxes(*viewer.shown), abs=1e-4)
    second.page.context.close()
    wait_until(lambda: len(viewer.server.get_clients()) == 1, "the second browser does not leave")
    set_value(tab.page, "Frame", "1")
    wait_until(lambda: viewer.shown[0].index == 1, "the first slider does nothing any more")
    assert second.foreign == tab.foreign == []
