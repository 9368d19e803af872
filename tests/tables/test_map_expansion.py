"""Lane borders of nuScenes' map expansion: the lines that the devkit makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.tables.map_expansion import read_lane_borders
from bevstack.tables.reader import Tables
from bevstack.tables.street_map import read_street_map
from tests.tables.tiny_root import VERSION, write_tiny_root

LOCATION = "boston-seaport"
DEVKIT_LAYERS = (
    "polygon drivable_area road_segment road_block lane ped_crossing walkway stop_line "
    "carpark_area traffic_light lane_connector"
)


def expansion() -> dict[str, Any]:
    """Return a small map: nodes on a grid, two lines, one divider of each kind, and a dot."""
    nodes = [{"token": f"n{i}", "x": 10.0 * i, "y": 3.0 + i % 2} for i in range(6)]
    lines = [
        {"token": "l0", "node_tokens": ["n0", "n2", "n1"]},
        {"token": "l1", "node_tokens": ["n5", "n4"]},
        {"token": "l2", "node_tokens": ["n3"]},
    ]
    return {
        "version": "1.3",
        "node": nodes,
        "line": lines,
        "road_divider": [{"token": "r0", "line_token": "l1"}],
        "lane_divider": [
            {"token": "d0", "line_token": "l0"},
            {"token": "d1", "line_token": "l2"},
        ],
        "canvas_edge": [200.0, 200.0],
        "arcline_path_3": {},
        "connectivity": {},
        **{layer: [] for layer in DEVKIT_LAYERS.split()},
    }


def write(root: Path, content: object) -> Path:
    path = root / "maps" / "expansion" / f"{LOCATION}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow  # the devkit's map module imports much
def test_borders_are_the_lines_of_the_devkit(tmp_path: Path) -> None:
    map_api = pytest.importorskip("nuscenes.map_expansion.map_api")
    write(tmp_path, expansion())
    borders = read_lane_borders(tmp_path, LOCATION)
    theirs = map_api.NuScenesMap(str(tmp_path), LOCATION)
    for border, token in zip(borders, ("l1", "l0"), strict=True):
        np.testing.assert_array_equal(border, np.array(theirs.extract_line(token).coords))


def test_borders_are_lanes_of_a_scene_in_that_city(tmp_path: Path) -> None:
    root = write_tiny_root(tmp_path / "root")
    scenes = json.loads((root / VERSION / "scene.json").read_text())
    log = next(row["log_token"] for row in scenes if row["name"] == "scene-0103")
    (root / VERSION / "log.json").write_text(json.dumps([{"token": log, "location": LOCATION}]))
    region = ("scene-0103", np.full(2, -9.0), np.full(2, 9.0))
    assert read_street_map(Tables(root, VERSION), *region).lanes == ()
    write(root, expansion())
    assert len(read_street_map(Tables(root, VERSION), *region).lanes) == 2
    (root / VERSION / "log.json").write_text(json.dumps([{"token": log, "location": "../../x"}]))
    with pytest.raises(ValueError, match=r"location in log\.json must lie inside"):
        read_street_map(Tables(root, VERSION), *region)


@pytest.mark.parametrize(
    "change",
    [
        {"node": [{"token": "n0", "x": 1.0}]},
        {"line": None},
        {"lane_divider": [{"token": "d", "line_token": "none"}]},
        {"node": 5},
        {"node": {}},
        {"node": [{"token": f"n{i}", "x": "nan", "y": 0.0} for i in range(6)]},
        {"node": [{"token": f"n{i}", "x": 1e9, "y": 0.0} for i in range(6)]},
        {"line": [{"token": "l0", "node_tokens": "n0"}]},
    ],
)
def test_damaged_expansion_is_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    write(tmp_path, {**expansion(), **change})
    with pytest.raises(ValueError, match=rf"map expansion must hold the layers .*{LOCATION}\.json"):
        read_lane_borders(tmp_path, LOCATION)


def test_without_expansion_there_are_no_borders(tmp_path: Path) -> None:
    assert read_lane_borders(tmp_path, LOCATION) == ()
    write(tmp_path, [])
    with pytest.raises(ValueError, match="map expansion must hold the layers"):
        read_lane_borders(tmp_path, LOCATION)
