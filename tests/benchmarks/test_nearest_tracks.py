"""The baseline of tracking: identities of boxes placed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.nearest_tracks import nearest_tracks
from bevstack.evaluation.results.box_entries import columns_of_results
from bevstack.evaluation.tracking.track_file import parse_tracks
from bevstack.tables.reader import Tables
from tests.export.result_files import box, sample_tokens
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(write_tiny_root(tmp_path_factory.mktemp("root")), VERSION, cache=False)


def track(tables: Tables, frames: list[list[tuple[str, float, float]]]) -> list[list[str]]:
    """Return the identities of boxes given by name, x and score; they move 1 m/s along x."""
    results = {}
    for token, boxes in zip(sample_tokens(), frames, strict=True):
        entries = [(box(token, name, (x, 0.0), 0.0, 1.0), score) for name, x, score in boxes]
        results[token] = [
            entry
            | {"detection_name": entry.pop("name"), "detection_score": score, "attribute_name": ""}
            for entry, score in entries
        ]
    samples = np.array([tables.sample_row(token) for token in sample_tokens()])
    tracked = nearest_tracks(columns_of_results(results), tables, samples)
    parse_tracks(tracked)  # the format permits them
    return [[str(one["tracking_id"]) for one in tracked[token]] for token in sample_tokens()]


def test_the_best_box_chooses_first_and_a_class_keeps_to_itself(tables: Tables) -> None:
    frames = [
        [("car", 0.0, 0.9), ("truck", 1.0, 0.5)],
        [("car", 1.0, 0.3), ("car", 1.5, 0.8), ("truck", 2.9, 0.2)],
        [],
        [("traffic_cone", 2.0, 0.9), ("car", 3.0, 0.7)],
    ]
    # The cone is not tracked. In the end, the car of 1.5 m is expected nearest to the car of 3 m.
    assert track(tables, frames) == [["0", "1"], ["0", "2", "1"], [], ["0"]]


def test_an_object_without_a_box_moves_on_for_two_frames(tables: Tables) -> None:
    car = ("car", 0.0, 0.9)
    assert track(tables, [[car], [], [], [("car", 1.5, 0.9)]]) == [["0"], [], [], ["0"]]
    assert track(tables, [[car], [("car", 3.7, 0.9)], [], []])[1] == ["1"]  # 3 m or more away
    # The tiny data set has samples half a second apart: 0.5 m of the 3.7 m are expected motion.
    assert track(tables, [[car], [("car", 3.4, 0.9)], [], []])[1] == ["0"]
