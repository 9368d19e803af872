"""Empty lists in place of results, if parameters ask for them: with the stamp, and never old."""

from __future__ import annotations

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.bag import Publication
from bevstack.export.messages.store import open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.wiring import make_node
from tests.export.bags import stamp_us
from tests.runtime.node.inputs import (
    CAMERAS,
    START_US,
    FakeDetector,
    file_image,
    info,
    mounted,
    odometry,
)


def refused_step(distro: str, age_us: int, *, empty: bool) -> list[Publication]:
    """Return what a node publishes of a window that its detector refuses."""
    detector = FakeDetector()
    parameters = Parameters({"cameras": CAMERAS, "publish_empty_on_error": empty})
    parts = make_node(detector, parameters, open_store(distro), model="fake", times=False)
    core = parts.core
    for camera in CAMERAS:
        core.add_transform(mounted(camera))
        core.add_info(camera, info(camera), START_US)
        core.add_image(camera, file_image(camera, START_US), START_US)
    core.add_odometry(odometry(START_US))
    (window,) = core.close_due(START_US)
    detector.streams[-1].refuse = True
    found = list(parts.step(window, START_US + age_us))
    assert core.last_result is None
    return found


def test_a_refused_frame_gives_empty_lists_with_its_stamp_if_they_are_wanted() -> None:
    found = refused_step("humble", 500_000, empty=True)
    names = [p.topic for p in found]
    assert names == [f"/bevstack/{name}" for name in ("detections", "objects", "tracks")]
    for publication in found:
        message = publication.message
        assert stamp_us(message.header.stamp) == START_US
        assert len(getattr(message, "objects", getattr(message, "detections", None))) == 0
    assert [p.topic for p in refused_step("noetic", 0, empty=True)] == ["/bevstack/detections"]
    assert refused_step("humble", 500_000, empty=False) == []


def test_an_old_window_gives_no_empty_list() -> None:
    assert refused_step("humble", 1_000_001, empty=True) == []
