"""What a user takes along from headless Chromium: a picture, and the command line of a view."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bevstack.cli.main import build_parser
from bevstack.cli.view_options import command_line, first_state
from tests.viewer.browser.chromium import TIMEOUT_MS, Tab
from tests.viewer.browser.pages import client_of, count_of_class, press, set_value, wait_until


def test_a_saved_picture_shows_the_scene_in_class_colours(
    viewer: Any, tab: Tab, tmp_path: Path
) -> None:
    with tab.page.expect_download(timeout=TIMEOUT_MS) as event:
        press(tab.page, "Save a picture")
    name = event.value.suggested_filename
    assert name == f"{viewer.shown[0].scene}_000.png"
    event.value.save_as(tmp_path / name)
    camera = client_of(viewer).camera
    picture = Image.open(tmp_path / name).convert("RGB")
    assert picture.size == (camera.image_width, camera.image_height)
    assert count_of_class(picture, "car") > 60


@pytest.mark.parametrize("follow", [True, False])
def test_the_copied_command_line_brings_the_view_back(
    follow: bool, args: argparse.Namespace, viewer: Any, tab: Tab
) -> None:
    from bevstack.viewer.browser.viewer import Viewer

    page = tab.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    viewer.change(partial(replace, follow=follow))
    set_value(page, "Frame", "2")  # viser's page drops an action that another soon follows
    wait_until(lambda: viewer.shown[1].index == 2, "the frame is not shown")
    set_value(page, "Score from", "0.35")
    wait_until(lambda: viewer.shown[1].min_score == 0.35, "the score is not set")
    press(page, "side")
    client = client_of(viewer)
    pose = viewer.pose(*viewer.shown)
    place = pose[:3, :3] @ (0, -26, 12) + pose[:3, 3]
    wait_until(lambda: np.allclose(client.camera.position, place, atol=0.02), "no other camera")
    line = copied_line(page)
    again = build_parser().parse_args(shlex.split(line)[1:])
    state = first_state(again, viewer.source)
    assert (state.scene, state.index, state.min_score) == (viewer.shown[0].scene, 2, 0.35)
    assert state.eye.position_m == pytest.approx((0, -26, 12), abs=0.02)
    assert state.eye.look_at_m == pytest.approx((4, 0, 0), abs=0.02)
    again_shown = Viewer(viewer.source, state, port=0)  # what the command then opens
    camera = again_shown.server.initial_camera
    again_shown.stop()
    assert camera.position == pytest.approx((0, -26, 12), abs=0.02)
    assert command_line(args, state, state.eye) == line


def copied_line(page: Any) -> str:
    """Press the buttons that copy the command line; return it from the clipboard."""
    press(page, "Command line of this view")
    shown = page.locator("#command").inner_text()
    page.evaluate("navigator.clipboard.writeText('nothing')")
    page.locator("#copy").click()
    page.get_by_text("copied", exact=True).wait_for()
    copied = page.evaluate("navigator.clipboard.readText()").strip()
    press(page, "Close")
    page.locator("#command").wait_for(state="detached")
    assert copied == shown
    return copied
