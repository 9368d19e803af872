"""Counts of the test split of the preset `lights`, and of tables written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bevstack.synthetic import make_world, preset
from bevstack.synthetic.traffic_counts import count_traffic
from tests.tables.test_traffic_elements import ROW


@pytest.mark.slow
def test_the_test_split_of_lights_is_large_enough_for_claims(tmp_path: Path) -> None:
    """Make the 60 test scenes: more than 1,000 lights, 100 yellow and 200 moments that differ.

    The spec's limits: with fewer rows or moments, an accuracy may be chance.
    """
    spec = replace(preset("lights"), train_scenes=0, val_scenes=0, front_sweeps=False)
    make_world(tmp_path / "world", spec)
    counts = count_traffic(tmp_path / "world", spec.version)["synth_test"]
    assert (counts.scenes, counts.samples) == (60, 600)
    assert counts.lights >= 1000 and counts.yellow >= 100 and counts.differing >= 200


def test_counts_of_tables_written_by_hand(tmp_path: Path) -> None:
    red, green = ({"color": c, "shape": "circle", "status": "on"} for c in ("red", "green"))
    own = {**ROW, "category": 1, "sample_token": "s", "lane_tokens": ["l"], "lamps": [red]}
    parallel = {**own, "token": "b", "lane_token": "m", "lane_tokens": ["m"], "lamps": [green]}
    across = {**parallel, "token": "c", "rotation": [1.0, 0.0, 0.0, 1.0], "lamps": []}
    walk = {**across, "token": "d", "road_user": "pedestrian", "lamps": [green]}
    sign = {**ROW, "token": "e", "category": 2, "sample_token": "s"}  # 9.75 px high
    rear = {**own, "token": "f", "camera": "CAM_BACK"}
    ego = {"sample_token": "s", "lane_token": "l", "manoeuvre": "left", "stop_line_m": None}
    tables = {
        "splits": {"a": ["scene-0001"], "b": []},
        "scene": [{"token": "t", "name": "scene-0001"}],
        "sample": [{"token": "s", "scene_token": "t"}],
        "ego_lane": [ego],
        "traffic_element": [own, parallel, across, walk, sign, rear],
    }
    for name, rows in tables.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    counts = count_traffic(tmp_path.parent, tmp_path.name)
    first = counts["a"]
    assert (first.scenes, first.samples, first.lights, first.pedestrian) == (1, 1, 4, 1)
    assert (first.red, first.yellow, first.green, first.red_yellow, first.off) == (1, 0, 1, 0, 1)
    assert (first.signs, first.readable_signs) == (1, 0)
    assert (first.own_light, first.differing) == (1, 1)
    assert counts["b"].samples == counts["b"].lights == 0
