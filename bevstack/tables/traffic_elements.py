"""Readers of two additional tables: `traffic_element.json` and `lane.json`.

nuScenes has no categories for traffic lights and signs, so the categories and attributes are those
of OpenLane-V2. One row of `traffic_element` is one light or sign in one keyframe image. `lane`
gives the centre lines, in the world frame, of the lanes that lights and signs govern.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.json_files import parse_json, read_bytes
from bevstack.tables.names import LANE_TABLE, TRAFFIC_ELEMENT_TABLE
from bevstack.types.traffic import LaneCenterline, TrafficElement
from bevstack.vocabulary import ROAD_SIGN, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT


def read_traffic_elements(folder: Path) -> tuple[TrafficElement, ...]:
    """Read `traffic_element.json` of a version's folder, in row order.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field or has an unknown category or
            attribute.
    """
    rows = _read(folder, TRAFFIC_ELEMENT_TABLE)
    return tuple(_parse(row, number) for number, row in enumerate(rows))


def read_lanes(folder: Path) -> dict[str, LaneCenterline]:
    """Read the lanes in `lane.json` of a version's folder, by token.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field or has no points.
    """
    rows = enumerate(_read(folder, LANE_TABLE))
    return {lane.token: lane for lane in (_parse_lane(row, number) for number, row in rows)}


def _parse_lane(row: Any, number: int) -> LaneCenterline:
    try:
        token, scene, points = str(row["token"]), str(row["scene_token"]), row["centerline"]
        points_m = np.array(points, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"row {number} of {LANE_TABLE}.json must have token, scene_token and centerline; got "
            f"{type(error).__name__}: {error}"
        ) from error
    if points_m.ndim != 2 or points_m.shape[1] < 2 or not np.isfinite(points_m).all():
        raise ValueError(
            f"centerline in row {number} of {LANE_TABLE}.json must be points (x, y); got shape "
            f"{points_m.shape}"
        )
    return LaneCenterline(token, scene, points_m)


def _read(folder: Path, table: str) -> Sequence[Any]:
    path = folder / f"{table}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"folder must hold {path.name}; got {folder}: worlds of `bevstack make-world` have "
            "this table, nuScenes does not"
        )
    rows = parse_json(read_bytes(path, str(path), max_bytes=None), str(path))
    if not isinstance(rows, list):
        raise ValueError(f"{path} must hold a list of rows; got {type(rows).__name__}")
    return rows


def _parse(row: Any, number: int) -> TrafficElement:
    try:
        (left, top), (right, bottom) = row["points"]
        width, depth, height = row["size"]
        w, _, _, z = row["rotation"]
        element = TrafficElement(
            token=row["token"],
            instance_token=row["instance_token"],
            sample_token=row["sample_token"],
            sample_data_token=row["sample_data_token"],
            camera=row["camera"],
            category=row["category"],
            attribute=row["attribute"],
            box_px=(left, top, right, bottom),
            position_m=tuple(row["translation"]),
            size_m=(depth, width, height),
            yaw_rad=float(2 * np.arctan2(z, w)),
            visibility=row["visibility"],
            lane_token=row["lane_token"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"row {number} of {TRAFFIC_ELEMENT_TABLE} must have all fields; got {row!r}"
        ) from error
    if element.category not in (TRAFFIC_LIGHT, ROAD_SIGN):
        raise ValueError(
            f"category of row {number} must be {TRAFFIC_LIGHT} or {ROAD_SIGN}; "
            f"got {element.category!r}"
        )
    if element.attribute not in range(len(TRAFFIC_ELEMENT_ATTRIBUTES)):
        raise ValueError(
            f"attribute of row {number} must be 0 to {len(TRAFFIC_ELEMENT_ATTRIBUTES) - 1}; "
            f"got {element.attribute!r}"
        )
    return element
