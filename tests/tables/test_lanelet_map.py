"""Lanelet2 maps that lanelet2 itself has written, and the cues that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.planning.stream import CueStream
from bevstack.tables.lanelet_map import read_lanelet_map
from tests.planning.drives import Post, detect, pose_at, view_at

lanelet2 = pytest.importorskip("lanelet2")
ORIGIN = {"latitude_deg": 49.0, "longitude_deg": 8.4}


def _line(points: list[Any], **tags: str) -> Any:
    line = lanelet2.core.LineString3d(lanelet2.core.getId(), points)
    for name, value in tags.items():
        line.attributes[name] = value
    return line


def _point(x: float, y: float, z: float = 0.0) -> Any:
    return lanelet2.core.Point3d(lanelet2.core.getId(), x, y, z)


def write_map(path: Path) -> dict[str, list[int]]:
    """Write two lanes, 3.5 m apart, of two lanelets each, and a light at the end of each lane."""
    core = lanelet2.core
    content = core.LaneletMap()
    ids: dict[str, list[int]] = {"lanes": [], "lights": []}
    for y, turn in ((0.0, "straight"), (3.5, "left")):
        bounds = [[_point(x, y + side) for x in (0.0, 30.0, 58.0)] for side in (1.75, -1.75)]
        pieces = []
        for first in (0, 1):
            left, right = (_line(points[first : first + 2]) for points in bounds)
            lanelet = core.Lanelet(core.getId(), left, right)
            lanelet.attributes["type"] = "lanelet"
            lanelet.attributes["subtype"] = "road"
            lanelet.attributes["location"] = "urban"
            pieces.append(lanelet)
        pieces[1].attributes["turn_direction"] = turn
        light = _line(
            [_point(60.0, y - 0.2, 5.0), _point(60.0, y + 0.2, 5.0)],
            type="traffic_light",
            height="1.0",
        )
        stop = _line([_point(57.0, y - 1.7), _point(57.0, y + 1.7)], type="stop_line")
        pieces[1].addRegulatoryElement(
            core.TrafficLight(core.getId(), core.AttributeMap(), [light], stop)
        )
        for lanelet in pieces:
            content.add(lanelet)
            ids["lanes"].append(lanelet.id)
        ids["lights"].append(light.id)
    origin = lanelet2.io.Origin(ORIGIN["latitude_deg"], ORIGIN["longitude_deg"])
    lanelet2.io.write(str(path), content, lanelet2.projection.UtmProjector(origin))
    return ids


def test_lights_stop_lines_and_lanes_are_read(tmp_path: Path) -> None:
    ids = write_map(tmp_path / "map.osm")
    found = read_lanelet_map(tmp_path / "map.osm", **ORIGIN)
    own, turn = found.lights
    assert own.map_id == str(ids["lights"][0]) and own.lanes == (str(ids["lanes"][1]),)
    assert own.manoeuvres == ("straight",) and turn.manoeuvres == ("left",)
    # The file holds 11 decimals of a degree: a micrometre.
    np.testing.assert_allclose(own.position_m, (60.0, 0.0, 5.5), atol=1e-4)
    assert own.stop_line_m is not None
    np.testing.assert_allclose(own.stop_line_m, [(57, -1.7), (57, 1.7)], atol=1e-4)
    assert found.successors[str(ids["lanes"][0])] == (str(ids["lanes"][1]),)
    assert found.successors[str(ids["lanes"][1])] == ()
    np.testing.assert_allclose(found.lanes[str(ids["lanes"][2])][0], (0, 3.5), atol=1e-4)


def test_the_map_decides_where_the_place_misleads(tmp_path: Path) -> None:
    """The vehicle drives 1.6 m left in its lane: place alone takes the neighbour's light."""
    ids = write_map(tmp_path / "map.osm")
    posts = [
        Post((60.0, 0.0, 5.5), lambda _: "red"),
        Post((60.0, 3.5, 5.5), lambda _: "green"),
    ]
    traffic_map = read_lanelet_map(tmp_path / "map.osm", **ORIGIN)
    stream, rng = CueStream(traffic_map=traffic_map), np.random.default_rng(0)
    for k in range(20):
        view = view_at(pose_at(10 + 0.8 * k, 1.6), 0.1 * k)
        cues = stream.step(view, detect(posts, view, 0.1 * k, rng))
    red, green = sorted(cues.elements, key=lambda cue: cue.position_m[1])
    assert (red.map_id, green.map_id) == tuple(str(light) for light in ids["lights"])
    assert red.applies_to_ego > 0.9 and green.applies_to_ego < 0.1
    assert red.stop_line_s_m == pytest.approx(57 - (10 + 0.8 * 19), abs=1e-3)
    assert cues.for_manoeuvre("straight").advice == "stop"
    assert cues.for_manoeuvre("straight").distance_m == red.stop_line_s_m


def test_files_that_are_no_map_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must be a file; got .*none\.osm"):
        read_lanelet_map(tmp_path / "none.osm", **ORIGIN)
    (tmp_path / "bad.osm").write_text("<osm", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Lanelet2 map must be .* in .*bad\.osm"):
        read_lanelet_map(tmp_path / "bad.osm", **ORIGIN)
