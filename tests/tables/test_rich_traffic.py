"""Readers of the traffic tables of the preset `lights`, tested on handwritten rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.tables.traffic_elements import read_lanes, read_traffic_elements
from bevstack.tables.traffic_states import read_ego_lanes, read_timelines
from bevstack.types.traffic import Lamp
from tests.tables.test_traffic_elements import ROW, write

RED = {"color": "red", "shape": "left", "status": "on"}
LIGHT: dict[str, Any] = {
    **ROW,
    "lane_tokens": ["l", "m"],
    "lamps": [RED, {**RED, "color": "yellow"}],
    "manoeuvres": ["left"],
    "road_user": "vehicle",
}
LANE: dict[str, Any] = {
    "token": "l",
    "scene_token": "s",
    "centerline": [[0.0, 1.0], [5.0, 1.0]],
    "successors": ["m"],
    "stop_line_s_m": [4.0],
    "manoeuvres": ["straight", "left"],
}
LANES = [LANE, {**LANE, "token": "m", "successors": []}]
STATE: dict[str, Any] = {
    "instance_token": "i",
    "scene_token": "s",
    "timestamp_us": [100, 2_000_000],
    "lamps": [[RED], []],
    "flash_hz": 2.0,
    "flash_offset_us": 100,
}
EGO: dict[str, Any] = {
    "sample_token": "s",
    "lane_token": "l",
    "manoeuvre": "left",
    "stop_line_m": 3.5,
}


def test_all_fields_are_read(tmp_path: Path) -> None:
    sign = {**ROW, "token": "u", "category": 2, "meaning": "speed_limit", "speed_limit_mps": 8.5}
    dark = {**LIGHT, "token": "v", "is_dark": True, "lamp_pixels": 0.75}
    rows = write(tmp_path, "traffic_element", [LIGHT, sign, dark])
    light, plate, unlit = read_traffic_elements(rows)
    assert (light.is_dark, plate.is_dark, unlit.is_dark) == (False, False, True)
    assert (light.lamp_pixels, light.shows_lamps) == (None, True)
    assert (unlit.lamp_pixels, unlit.shows_lamps) == (0.75, False)
    assert light.lamps == (Lamp("red", "left", "on"), Lamp("yellow", "left", "on"))
    assert (light.lane_tokens, light.manoeuvres) == (("l", "m"), ("left",))
    assert (plate.meaning, plate.speed_limit_mps, plate.lamps) == ("speed_limit", 8.5, None)
    lane = read_lanes(write(tmp_path, "lane", LANES))["l"]
    assert (lane.successors, lane.stop_line_s_m) == (("m",), (4.0,))
    assert lane.manoeuvres == ("straight", "left")
    line = read_timelines(write(tmp_path, "traffic_state", [STATE]))["i"]
    np.testing.assert_array_equal(line.timestamp_us, [100, 2_000_000])
    assert line.lamps == ((Lamp("red", "left", "on"),), ()) and line.flash_hz == 2.0
    ego = read_ego_lanes(write(tmp_path, "ego_lane", [EGO]))["s"]
    assert (ego.lane_token, ego.manoeuvre, ego.stop_line_m) == ("l", "left", 3.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lamps": [{**RED, "color": "blue"}]}, r"color of lamps of row 0 .*\[0\] must be one of"),
        ({"lamps": [{"color": "red"}]}, r"lamps of row 0 .*\[0\] must have the field 'shape'"),
        ({"lamps": 5}, "lamps of row 0 of traffic_element.json must be a list; got 5"),
        ({"meaning": "yield"}, "meaning of row 0 .* must be one of other, .*; got 'yield'"),
        ({"is_dark": 1}, "is_dark of row 0 of traffic_element.json must be true or false; got 1"),
        ({"lamp_pixels": -1}, "lamp_pixels of row 0 of .* must be at least 0; got -1"),
        ({"lamp_pixels": "few"}, "lamp_pixels of row 0 of .* must be a number; got 'few'"),
        ({"road_user": "horse"}, "road_user of row 0 .* must be one of vehicle, .*; got 'horse'"),
        ({"manoeuvres": ["back"]}, r"manoeuvres of row 0 .*\[0\] must be one of straight"),
        ({"lane_tokens": ["l", "l"]}, r"lane_tokens of row 0 .*\[1\] must occur once; got 'l' tw"),
        ({"lane_tokens": ["x"]}, "lane_token of row 0 .* the token of a row of lane.json; got 'x'"),
        ({"lane_token": "y"}, "lane_token of row 0 .* the token of a row of lane.json; got 'y'"),
        ({"points": [[9.0, 9.0], [5.0, 12.0]]}, "points of row 0 .* two corners within the image"),
        ({"points": [[-1.0, 9.0], [5.0, 12.0]]}, "points of row 0 .* within the image of 800x450"),
        ({"points": [[1.0, 9.0], [801.0, 12.0]]}, "points of row 0 .* the image of 800x450 px"),
        ({"speed_limit_mps": "fast"}, "speed_limit_mps of row 0 .* must be a number; got 'fast'"),
    ],
)
def test_wrong_elements_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    lanes = read_lanes(write(tmp_path, "lane", LANES))
    write(tmp_path, "traffic_element", [{**LIGHT, **change}])
    with pytest.raises(ValueError, match=message):
        read_traffic_elements(tmp_path, lanes=lanes, image_size=(450, 800))


def test_a_token_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"token of row 1 of traffic_element.json must occur once"):
        read_traffic_elements(write(tmp_path, "traffic_element", [LIGHT, LIGHT]))
    with pytest.raises(ValueError, match=r"instance_token of row 1 of traffic_state.json must occ"):
        read_timelines(write(tmp_path, "traffic_state", [STATE, STATE]))
    with pytest.raises(ValueError, match=r"sample_token of row 1 of ego_lane.json must occur once"):
        read_ego_lanes(write(tmp_path, "ego_lane", [EGO, EGO]))


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        (
            "lane",
            {**LANE, "successors": ["z"]},
            r"successors of row 0 .* rows of lane.json; got 'z'",
        ),
        ("lane", {**LANE, "manoeuvres": ["up"]}, r"manoeuvres of row 0 .*\[0\] must be one of"),
        ("lane", {**LANE, "stop_line_s_m": [None]}, r"stop_line_s_m of row 0 .* must be a number"),
        ("traffic_state", {**STATE, "timestamp_us": [5, 5]}, "must be one or more ascending times"),
        ("traffic_state", {**STATE, "lamps": [[]]}, "must have one state for each of 2 times"),
        ("traffic_state", {**STATE, "flash_hz": -1}, r"flash_hz of row 0 .* must be 0 or more"),
        ("ego_lane", {**EGO, "manoeuvre": "fly"}, r"manoeuvre of row 0 .* must be one of straight"),
        ("ego_lane", {**EGO, "lane_token": "z"}, r"lane_token of row 0 .* lane.json; got 'z'"),
    ],
)
def test_wrong_rows_of_the_other_tables_are_refused(
    tmp_path: Path, table: str, row: dict[str, Any], message: str
) -> None:
    lanes = read_lanes(write(tmp_path, "lane", LANES))
    write(tmp_path, table, [row])
    with pytest.raises(ValueError, match=message):
        if table == "lane":
            read_lanes(tmp_path)
        elif table == "traffic_state":
            read_timelines(tmp_path)
        else:
            read_ego_lanes(tmp_path, lanes=lanes)
