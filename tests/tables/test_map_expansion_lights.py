"""Lights of nuScenes' map expansion, from a file in its form, and the match with elements."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.planning.stream import CueStream
from bevstack.tables.map_expansion_lights import read_map_lights
from tests.planning.drives import Post, detect, pose_at, view_at


def content() -> dict[str, Any]:
    """Return a city: lane a leads to lane b; a light with a stop line at the end of lane a."""
    corners = {"n0": (48, -1.7), "n1": (49, -1.7), "n2": (49, 1.7), "n3": (48, 1.7)}

    def path(x: float, y: float, length: float) -> list[dict[str, Any]]:
        return [
            {
                "start_pose": [x, y, 0.0],
                "end_pose": [x + length, y, 0.0],
                "shape": "LSR",
                "radius": 900.0,
                "segment_length": [0.0, length, 0.0],
            }
        ]

    return {
        "node": [{"token": t, "x": x, "y": y} for t, (x, y) in corners.items()],
        "polygon": [{"token": "p", "exterior_node_tokens": list(corners), "holes": []}],
        "stop_line": [
            {
                "token": "s",
                "polygon_token": "p",
                "stop_line_type": "TRAFFIC_LIGHT",
                "traffic_light_tokens": ["light"],
            }
        ],
        "traffic_light": [
            {
                "token": "light",
                "traffic_light_type": "VERTICAL",
                "items": [],
                "pose": {"tx": 52.0, "ty": 0.2, "tz": 0.0, "rx": 0.0, "ry": 0.0, "rz": 3.1},
            }
        ],
        "arcline_path_3": {"a": path(0, 0, 50), "b": path(50, 0, 30), "c": path(0, 3.5, 80)},
        "connectivity": {
            "a": {"incoming": [], "outgoing": ["b"]},
            "b": {"incoming": ["a"], "outgoing": []},
            "c": {"incoming": [], "outgoing": []},
        },
    }


def write(root: Path, city: dict[str, Any]) -> None:
    folder = root / "maps" / "expansion"
    folder.mkdir(parents=True)
    (folder / "town.json").write_text(json.dumps(city), encoding="utf-8")


def test_a_light_governs_the_lanes_that_cross_its_stop_line(tmp_path: Path) -> None:
    write(tmp_path, content())
    found = read_map_lights(tmp_path, "town")
    assert found is not None
    (light,) = found.lights
    assert light.map_id == "light" and light.lanes == ("a",) and not light.height_known
    assert found.successors["a"] == ("b",)
    np.testing.assert_allclose(found.lanes["a"][[0, -1]], [(0, 0), (50, 0)], atol=1e-9)


def test_arcs_end_at_their_end_pose(tmp_path: Path) -> None:
    """A quarter circle to the left with radius 10, from its geometry."""
    city = content()
    part = {"start_pose": [0.0, 0.0, 0.0], "shape": "LSR", "radius": 10.0}
    city["arcline_path_3"] = {"a": [{**part, "segment_length": [5 * np.pi, 0.0, 0.0]}]}
    write(tmp_path, city)
    found = read_map_lights(tmp_path, "town")
    assert found is not None
    line = found.lanes["a"]
    np.testing.assert_allclose(line[-1], (10, 10), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(line - (0, 10), axis=1), 10, atol=1e-9)


def test_points_of_a_path_are_those_of_a_loop_over_its_steps(tmp_path: Path) -> None:
    """A loop from the geometry: each step of at most 1 m is the chord of its part of an arc."""
    city = content()
    start, radius, lengths = [3.0, -2.0, 0.7], 20.0, [7.3, 0.0, 12.5]
    part = {"start_pose": start, "radius": radius, "segment_length": lengths}
    city["arcline_path_3"] = {"a": [{**part, "shape": "RSL"}]}
    write(tmp_path, city)
    found = read_map_lights(tmp_path, "town")
    assert found is not None
    x, y, heading = start
    wanted = [(x, y)]
    for sign, length in zip((-1, 0, 1), lengths, strict=True):
        count = max(int(np.ceil(length)), 1)
        for _ in range(count):
            turn = sign * length / count / radius
            chord = 2 * radius * np.sin(abs(turn) / 2) if sign else length / count
            x += chord * np.cos(heading + turn / 2)
            y += chord * np.sin(heading + turn / 2)
            heading += turn
            wanted.append((x, y))
    np.testing.assert_allclose(found.lanes["a"], wanted, atol=1e-12)  # sums of 22 steps


def test_lanes_of_a_thousand_kilometres_are_read_in_a_moment(tmp_path: Path) -> None:
    city = content()
    city["arcline_path_3"]["c"][0]["segment_length"] = [0.0, 1e6, 0.0]
    write(tmp_path, city)
    before = time.process_time()
    found = read_map_lights(tmp_path, "town")
    assert found is not None and len(found.lanes["c"]) == 1_000_003
    assert time.process_time() - before < 3  # a loop over the steps took 6 s


def test_elements_take_the_maps_identity_without_its_height(tmp_path: Path) -> None:
    write(tmp_path, content())
    stream, rng = CueStream(traffic_map=read_map_lights(tmp_path, "town")), np.random.default_rng(0)
    for k in range(5):
        view = view_at(pose_at(10 + 0.8 * k), 0.1 * k)
        cues = stream.step(view, detect([Post((52.0, 0.2, 5.5))], view, 0.1 * k, rng))
    (light,) = cues.elements
    assert light.map_id == "light" and light.applies_to_ego > 0.95
    # The middle of the stop line's corners.
    assert light.stop_line_s_m == pytest.approx(48.5 - 13.2)


def test_a_missing_expansion_is_none_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert read_map_lights(tmp_path, "town") is None
    city = content()
    del city["connectivity"]
    write(tmp_path, city)
    with pytest.raises(ValueError, match=r"map expansion must hold .*connectivity.*town\.json"):
        read_map_lights(tmp_path, "town")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "radius must be at least"),  # a division by zero
        ({"radius": "900"}, "radius must be a number"),
        ({"segment_length": [0.0, 1e12, 0.0]}, "arcline_path_3 must have at most 1e.07 m"),
        ({"segment_length": [1.0]}, "zip"),
        ({"start_pose": [0.0, 0.0]}, "not enough values"),
        ({"start_pose": [0.0, 1e9, 0.0]}, "start_pose must be at most 1e.08 m"),
        ({"shape": "LXR"}, "KeyError 'X'"),
    ],
)
def test_a_path_without_end_or_shape_is_refused_at_once(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    city = content()
    city["arcline_path_3"]["b"][0].update(change)
    write(tmp_path, city)
    with pytest.raises(ValueError, match=rf"map expansion must hold .*{message}.*town\.json"):
        read_map_lights(tmp_path, "town")
