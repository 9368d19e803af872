"""One server and one browser for all tests of this folder; both end with its last test."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bevstack.cli.main import build_parser
from bevstack.cli.view_options import command_line
from tests.viewer.browser.chromium import Chromium, Tab, chromium, chromium_path
from tests.viewer.browser.pages import value_of, wait_until
from tests.viewer.worlds import VERSION, source_of, viewer_world

LAYERS = frozenset({"predicted", "true", "faces"})


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return viewer_world(tmp_path_factory)


@pytest.fixture(scope="package")
def args(folder: Path) -> argparse.Namespace:
    """Options of the verb for the viewer."""
    words = ["view", "--nuscenes", str(folder / "world"), "--version", VERSION, "--results"]
    words += [str(folder / "model.json"), "--against", str(folder / "tracks.json"), "--port", "0"]
    return build_parser().parse_args(words)


@pytest.fixture(scope="package")
def viewer(folder: Path, args: argparse.Namespace) -> Iterator[Any]:
    """A viewer of detections and tracks on a free port, with the controls of the verb."""
    pytest.importorskip("viser")
    chromium_path()
    from bevstack.viewer.browser.clients import Clients
    from bevstack.viewer.browser.controls import Controls
    from bevstack.viewer.browser.viewer import Viewer
    from bevstack.viewer.recorded import RecordedDrives
    from bevstack.viewer.view_state import ViewState

    source = RecordedDrives(source_of(folder, "model.json", "tracks.json"))
    state = ViewState(scene=source.scenes[0], layers=LAYERS, min_score=0.0)
    viewer = Viewer(source, state, port=0)
    Controls(viewer)
    viewer.clients = Clients(viewer, lambda shown, eye: command_line(args, shown, eye))
    viewer.start()
    yield viewer
    viewer.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def first_tab(viewer: Any, browser: Chromium) -> Tab:
    return browser.open(viewer.address)


@pytest.fixture
def tab(viewer: Any, first_tab: Tab) -> Tab:
    """A browser that shows the viewer's first frame with all boxes."""
    from bevstack.viewer.view_state import ViewState

    state = ViewState(scene=viewer.source.scenes[0], layers=LAYERS, min_score=0.0)
    viewer.play(False)
    viewer.speed = 1.0
    viewer.change(lambda _: state)
    wait_until(lambda: viewer.shown[1] == state, "the first frame is not shown")
    for label in ("Frame", "Score from"):  # else the page takes it for newer than what is typed
        wait_until(lambda label=label: value_of(first_tab.page, label) == "0", f"{label} is not 0")
    return first_tab
