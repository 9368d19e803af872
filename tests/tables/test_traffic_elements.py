"""The reader of traffic elements, tested on handwritten rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.tables.traffic_elements import read_lanes, read_traffic_elements
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

ROW = {
    "token": "t",
    "instance_token": "i",
    "sample_token": "s",
    "sample_data_token": "d",
    "camera": "CAM_FRONT",
    "category": 1,
    "attribute": 3,
    "points": [[10.0, 20.5], [14.0, 30.25]],
    "translation": [601.0, 702.5, 5.9],
    "size": [0.36, 0.3, 1.05],
    "rotation": [np.cos(0.3), 0.0, 0.0, np.sin(0.3)],
    "visibility": 0.75,
    "lane_token": "l",
}


def write(folder: Path, table: str, rows: object) -> Path:
    (folder / f"{table}.json").write_text(json.dumps(rows))
    return folder


def test_a_row_becomes_an_element_in_the_size_and_yaw_conventions_of_bevstack(
    tmp_path: Path,
) -> None:
    (element,) = read_traffic_elements(write(tmp_path, "traffic_element", [ROW]))
    assert element.box_px == (10.0, 20.5, 14.0, 30.25)
    assert element.size_m == (0.3, 0.36, 1.05)  # depth, width, height
    assert element.yaw_rad == pytest.approx(0.6)
    assert element.position_m == (601.0, 702.5, 5.9)
    assert TRAFFIC_ELEMENT_ATTRIBUTES[element.attribute] == "yellow"
    assert (element.lane_token, element.visibility) == ("l", 0.75)


def test_attributes_are_numbered_as_in_openlane_v2() -> None:
    expected = {"unknown": 0, "red": 1, "green": 2, "no_left_turn": 7, "slight_right": 12}
    assert {name: TRAFFIC_ELEMENT_ATTRIBUTES.index(name) for name in expected} == expected
    assert len(TRAFFIC_ELEMENT_ATTRIBUTES) == 13


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": 3}, "category of row 0 of traffic_element.json must be from 1 to 2; got 3"),
        ({"category": True}, "category of row 0 of traffic_element.json must be a whole number"),
        (
            {"attribute": 13},
            "attribute of row 0 of traffic_element.json must be from 0 to 12; got 13",
        ),
        (
            {"points": [1, 2]},
            r"points of row 0 of traffic_element.json\[0\] must be 2 numbers; got 1",
        ),
        ({"camera": 5}, "camera of row 0 of traffic_element.json must be a text; got 5"),
        (
            {"visibility": "0.9"},
            "visibility of row 0 of traffic_element.json must be a number; got '0",
        ),
        (
            {"size": [1, 2, float("nan")]},
            r"size of row 0 of traffic_element.json\[2\] must be finite",
        ),
        ({"translation": [1, 2]}, "translation of row 0 of traffic_element.json must be 3 numbers"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_traffic_elements(write(tmp_path, "traffic_element", [{**ROW, **change}]))


def test_a_folder_without_the_table_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"traffic_element.json; got .*make-world"):
        read_traffic_elements(tmp_path)
    with pytest.raises(ValueError, match="must hold a list of rows; got dict"):
        read_traffic_elements(write(tmp_path, "traffic_element", {}))


def test_lanes_are_indexed_by_token(tmp_path: Path) -> None:
    row = {"token": "l", "scene_token": "s", "centerline": [[0.0, 1.0], [2.0, 1.5]]}
    lanes = read_lanes(write(tmp_path, "lane", [row]))
    assert list(lanes) == ["l"] and lanes["l"].scene_token == "s"
    np.testing.assert_array_equal(lanes["l"].points_m, [[0.0, 1.0], [2.0, 1.5]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([3], "row 0 of lane.json must be a JSON object; got 3"),
        ([{"token": "l"}], "row 0 of lane.json must have the field 'centerline'"),
        ([{"token": "l", "scene_token": "s", "centerline": [[1]]}], "must be 2 numbers"),
        (
            [{"token": 1, "scene_token": "s", "centerline": []}],
            "token of row 0 of lane.json must be a",
        ),
        ([{"token": "l", "scene_token": "s", "centerline": []}] * 2, "token of row 1 .* once"),
    ],
)
def test_wrong_lanes_are_refused(tmp_path: Path, rows: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_lanes(write(tmp_path, "lane", rows))
