"""The viewer in headless Chromium: what is on the page, and what its controls do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bevstack.vocabulary import DETECTION_CLASSES
from tests.viewer.browser.chromium import Tab
from tests.viewer.browser.pages import (
    FULL,
    painted_boxes,
    pictures_of,
    pixels_of_class,
    set_value,
    shown_boxes,
    wait_until,
)


def test_the_page_shows_boxes_in_class_colours_and_asks_no_other_host(
    viewer: Any, tab: Tab
) -> None:
    page = tab.page
    assert page.title() and page.locator("canvas").count() >= 1
    wait_until(lambda: pixels_of_class(page, "car") > 60, "no pixel has the colour of a car")
    viewer.change(lambda state: replace(state, layers=frozenset({"ground"})))
    wait_until(lambda: pixels_of_class(page, "car") < 6, "the boxes stay when they are hidden")
    assert tab.foreign == []


def test_the_strip_holds_the_files_of_the_frame_and_the_timeline_moves_the_scene(
    folder: Path, viewer: Any, tab: Tab
) -> None:
    page = tab.page
    files = {p.read_bytes() for p in (folder / "world" / "samples").rglob("*.jpg")}
    assert len(pictures_of(page)) == 6 and set(pictures_of(page)) <= files
    set_value(page, "Frame", "2")
    wait_until(lambda: viewer.shown[0].index == 2, "the slider does not move the scene")
    moment, state = viewer.shown
    expected = viewer.source.moment(moment.scene, 2)
    assert moment.sample_token == expected.sample_token
    assert painted_boxes(viewer) == pytest.approx(shown_boxes(expected, state), abs=1e-4)
    encoded = {camera.encoded for camera in expected.cameras}
    wait_until(lambda: set(pictures_of(page)) == encoded, "the strip does not follow the frame")


def test_score_and_classes_change_the_number_of_boxes(viewer: Any, tab: Tab) -> None:
    page = tab.page
    before = len(painted_boxes(viewer))
    set_value(page, "Score from", "0.6")
    wait_until(lambda: viewer.shown[1].min_score == 0.6, "the score slider does nothing")
    moment = viewer.shown[0]
    assert len(painted_boxes(viewer)) == (moment.predicted[0].score >= 0.6).sum() < before
    counts = page.locator("#counts")
    wait_until(
        lambda: f": {len(painted_boxes(viewer))} of {before} boxes" in counts.inner_text(),
        "the counts do not follow",
    )
    page.get_by_text("Classes", exact=True).click()
    page.get_by_label("car", exact=True).uncheck()
    car = DETECTION_CLASSES.index("car")
    wait_until(lambda: viewer.shown[1].labels == FULL - {car}, "the switch of cars does nothing")
    rows = (moment.predicted[0].score >= 0.6) & (moment.predicted[0].boxes.label != car)
    assert len(painted_boxes(viewer)) == rows.sum()
    page.get_by_label("car", exact=True).check()
    page.get_by_text("Classes", exact=True).click()
