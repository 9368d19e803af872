"""The benchmark of the viewer: a client gets every moment, and frames of boxes are timed."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser")

from benchmarks.viewer import measure_moments
from benchmarks.viewer_browser import many_boxes, measure_boxes
from tests.viewer.browser.chromium import chromium_path
from tests.viewer.worlds import VERSION, viewer_world


def test_every_moment_that_is_shown_arrives(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = viewer_world(tmp_path_factory)
    arguments = argparse.Namespace(
        nuscenes=folder / "world", version=VERSION, results=folder / "model.json", runs=1
    )
    found = measure_moments(arguments)
    assert found["frames"] == 4 and found["pictures"] == [(160, 90)] * 6
    assert found["kilobytes"] > 10 and found["cpu_ms"]["warm"] > 0
    assert found["per_s"]["cold"] > 0 and found["per_s"]["warm"] > 0


def test_boxes_are_within_fifty_metres_and_a_third_of_them_moves() -> None:
    boxes = many_boxes(1000).predicted[0].boxes
    assert len(boxes) == 1000 and np.abs(boxes.center_m[:, :2]).max() <= 50
    assert (boxes.speed_mps > 0).sum() == 334


def test_frames_of_boxes_are_counted_while_the_view_turns() -> None:
    chromium_path()
    found = measure_boxes(20, 1.5)
    assert found is not None and min(found["frames"]) > 2
    assert 1000 / 120 < found["frame_ms"]["warm"] < found["p95_ms"]["warm"] + 1
