from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.browser.chromium import Chromium, Tab, chromium, chromium_path
from tests.viewer.browser.pages import wait_until
from tests.viewer.worlds import source_of, viewer_world

LAYERS = frozenset({"predicted", "true", "faces"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return viewer_world(tmp_path_factory)


@pytest.fixture(scope="module")
def viewer(folder: Path) -> Iterator[Any]:
    """A viewer of two models on a free port, with the controls of the verb."""
    pytest.importorskip("viser")
    chromium_path()
    from bevstack.viewer.browser.clients import Clients
    from bevstack.viewer.browser.controls import Controls
    from bevstack.viewer.browser.viewer import Viewer
    from bevstack.viewer.recorded import RecordedDrives
    from bevstack.viewer.view_state import ViewState

    source = RecordedDrives(source_of(folder, "model.json", "other.json"))
    state = ViewState(scene=source.scenes[0], layers=LAYERS, min_score=0.0)
    viewer = Viewer(source, state, port=0)
    Controls(viewer)
    Clients(viewer, lambda shown, eye: f"bevstack view --frame {shown.index} {eye.position_m}")
    viewer.start()
    yield viewer
    viewer.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def tab(viewer: Any, browser: Chromium) -> Tab:
    """A browser that shows the viewer."""
    return browser.open(viewer.address)


@pytest.fixture(autouse=True)
def at_start(viewer: Any) -> None:
    """Put the viewer back to the first frame with all boxes."""
    from bevstack.viewer.view_state import ViewState

    state = ViewState(
        scene=viewer.source.scenes[0],
        layers=LAYERS,
        min_score=0.0,
    )
    viewer.play(False)
    viewer.change(lambda _: state)
    wait_until(lambda: viewer.shown[1] == state, "the first frame is not shown")
