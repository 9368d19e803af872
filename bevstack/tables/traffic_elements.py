"""Readers of two additional tables: `traffic_element.json` and `lane.json`.

nuScenes has no categories for traffic lights and signs, so the categories and attributes are those
of OpenLane-V2. One row of `traffic_element` is one light or sign in one keyframe image. `lane`
gives the centre lines, in the world frame, of the lanes that lights and signs govern.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    parse_json,
    read_bytes,
    shorten,
)
from bevstack.tables.names import LANE_TABLE, TRAFFIC_ELEMENT_TABLE
from bevstack.types.traffic import LaneCenterline, TrafficElement
from bevstack.vocabulary import ROAD_SIGN, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT


def read_traffic_elements(folder: Path) -> tuple[TrafficElement, ...]:
    """Read `traffic_element.json` of a version's folder, in row order.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field, has a value of another kind or
            an unknown category or attribute. Names the row and the field.
    """
    return tuple(_parse(row) for row in _rows(folder, TRAFFIC_ELEMENT_TABLE))


def read_lanes(folder: Path) -> dict[str, LaneCenterline]:
    """Read the lanes in `lane.json` of a version's folder, by token.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field, has a value of another kind or
            the token of an earlier row. Names the row and the field.
    """
    lanes: dict[str, LaneCenterline] = {}
    for row in _rows(folder, LANE_TABLE):
        points = expect_list(row.where("centerline"), row.field("centerline"))
        width = len(points[0]) if points and isinstance(points[0], list) else 2  # (x, y) or more
        token = row.text("token")
        if token in lanes:
            raise ValueError(f"{row.where('token')} must occur once; got {shorten(token)} twice")
        lanes[token] = LaneCenterline(
            token, row.text("scene_token"), row.numbers("centerline", (len(points), max(width, 2)))
        )
    return lanes


def _read(folder: Path, table: str) -> Sequence[Any]:
    path = folder / f"{table}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"folder must hold {path.name}; got {folder}: worlds of `bevstack make-world` have "
            "this table, nuScenes does not"
        )
    rows = parse_json(read_bytes(path, str(path), max_bytes=None), str(path), allow_nan=True)
    if not isinstance(rows, list):
        raise ValueError(f"{path} must hold a list of rows; got {type(rows).__name__}")
    return rows


def _rows(folder: Path, table: str) -> Iterator[_Row]:
    for number, values in enumerate(_read(folder, table)):
        yield _Row(f"row {number} of {table}.json", values)


class _Row:
    """A row of a table whose fields are checked when they are read."""

    def __init__(self, place: str, values: Any) -> None:
        self._place = place
        self._values = expect_object(place, values)

    def where(self, name: str) -> str:
        """Return the place of a field for messages."""
        return f"{name} of {self._place}"

    def field(self, name: str) -> Any:
        """Return a field of any kind."""
        return expect_field(self._place, self._values, name)

    def text(self, name: str) -> str:
        """Return a field of text, which may be empty."""
        value = self.field(name)
        if not isinstance(value, str):
            raise ValueError(f"{self.where(name)} must be a text; got {shorten(value)}")
        return value

    def numbers(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return a field of finite numbers."""
        return expect_numbers(self.where(name), self.field(name), shape)

    def number(self, name: str) -> float:
        """Return a field of one finite number."""
        return expect_number(self.where(name), self.field(name))

    def code(self, name: str, low: int, high: int) -> int:
        """Return a field of a whole number in a range."""
        return expect_integer(self.where(name), self.field(name), low=low, high=high)


def _parse(row: _Row) -> TrafficElement:
    (left, top), (right, bottom) = row.numbers("points", (2, 2)).tolist()
    x, y, z = row.numbers("translation", (3,)).tolist()
    width, depth, height = row.numbers("size", (3,)).tolist()
    qw, _, _, qz = row.numbers("rotation", (4,))
    return TrafficElement(
        token=row.text("token"),
        instance_token=row.text("instance_token"),
        sample_token=row.text("sample_token"),
        sample_data_token=row.text("sample_data_token"),
        camera=row.text("camera"),
        category=row.code("category", TRAFFIC_LIGHT, ROAD_SIGN),
        attribute=row.code("attribute", 0, len(TRAFFIC_ELEMENT_ATTRIBUTES) - 1),
        box_px=(left, top, right, bottom),
        position_m=(x, y, z),
        size_m=(depth, width, height),
        yaw_rad=float(2 * np.arctan2(qz, qw)),
        visibility=row.number("visibility"),
        lane_token=row.text("lane_token"),
    )
