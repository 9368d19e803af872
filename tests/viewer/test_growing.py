"""The viewer over a drive that grows: it follows the newest frame, or stays where it is put."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("viser")

from bevstack.viewer.browser.controls import Controls
from bevstack.viewer.browser.viewer import Viewer
from bevstack.viewer.growing import GrowingDrive
from tests.viewer.moments import STATE, boxes, moment


def add(drive: GrowingDrive, *, notes: tuple[str, ...] = ()) -> None:
    index = drive.count("scene")
    at = moment(boxes((8.0 + index, 1.0, 0.2)))
    drive.add(dataclasses.replace(at, index=index, notes=notes))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture
def drive() -> GrowingDrive:
    made = GrowingDrive(kept=6)
    add(made)
    return made


@pytest.fixture
def viewer(drive: GrowingDrive) -> Iterator[Any]:
    made = Viewer(drive, STATE, port=0)
    made.controls = Controls(made)  # type: ignore[attr-defined]
    made.show_newest(True)
    made.start()
    yield made
    made.stop()


def shows(viewer: Any, index: int) -> None:
    wait_until(lambda: viewer.shown[0].index == index, f"frame {index} is not shown")
    wait_until(lambda: viewer.controls._frame.value == index, "the slider does not follow")


def test_the_newest_frame_is_shown_until_a_step_back(viewer: Any, drive: GrowingDrive) -> None:
    add(drive)
    add(drive, notes=("camera CAM_BACK is black",))
    shows(viewer, 2)
    controls = viewer.controls
    wait_until(lambda: controls._frame.max == 2, "the timeline does not grow")
    wait_until(lambda: controls._notes.visible, "the notes are hidden")
    assert "camera CAM_BACK is black" in controls._notes.content
    wait_until(lambda: controls._play.label == "Pause", "following is not shown")
    assert controls._newest.value
    viewer.step(-1)
    shows(viewer, 1)
    add(drive)
    wait_until(lambda: controls._frame.max == 3, "the timeline does not grow")
    wait_until(lambda: controls._play.label == "Play", "the stay is not shown")
    assert viewer.shown[0].index == 1 and not controls._newest.value
    assert not controls._notes.visible
    viewer.show_newest(True)
    shows(viewer, 3)


def test_dropped_frames_leave_the_timeline_and_a_paused_view(
    viewer: Any, drive: GrowingDrive
) -> None:
    viewer.go_to(0)
    for _ in range(8):
        add(drive)
    shows(viewer, 3)  # frames 3 to 8 are kept
    wait_until(lambda: viewer.controls._frame.min == 3, "the timeline keeps dropped frames")
    viewer.step(-10)
    shows(viewer, 3)


def test_playing_ends_at_the_newest_frame_and_then_follows(
    viewer: Any, drive: GrowingDrive
) -> None:
    add(drive)
    viewer.go_to(0)
    shows(viewer, 0)
    viewer.speed = 20.0
    viewer.play(True)
    wait_until(lambda: viewer.shows_newest, "playing does not reach the newest frame")
    add(drive)
    shows(viewer, 2)


def test_the_end_of_the_drive_and_its_reason_are_shown(viewer: Any, drive: GrowingDrive) -> None:
    drive.report("1 of 4 frames computed")
    progress = viewer.controls._progress
    wait_until(lambda: "1 of 4 frames computed" in progress.content, "no progress is shown")
    drive.end(ValueError("a.jpg must be whole; got <half>"))
    wait_until(
        lambda: "stopped after 1 frames: a.jpg must be whole; got &lt;half&gt;" in progress.content,
        "the reason is not shown",
    )
    wait_until(lambda: not viewer.shows_newest, "a newer frame is awaited after the end")
