"""Readers of two additional tables: `traffic_element.json` and `lane.json`.

nuScenes has no categories for traffic lights and signs, so the categories and attributes are those
of OpenLane-V2. One row of `traffic_element` is one light or sign in one keyframe image. `lane`
gives the centre lines, in the world frame, of the lanes that lights and signs govern. Worlds of the
preset `lights` have more fields in both tables; in other worlds they are absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bevstack.json_files import expect_list, shorten
from bevstack.tables.names import LANE_TABLE, TRAFFIC_ELEMENT_TABLE
from bevstack.tables.traffic_rows import TrafficRow, refuse_duplicate, traffic_rows
from bevstack.types.traffic import ROAD_USERS, Lamp, LaneCenterline, TrafficElement
from bevstack.vocabulary import (
    MANOEUVRES,
    ROAD_SIGN,
    SIGN_MEANINGS,
    TRAFFIC_ELEMENT_ATTRIBUTES,
    TRAFFIC_LIGHT,
)


def read_traffic_elements(
    folder: Path,
    *,
    lanes: Mapping[str, LaneCenterline] | None = None,
    image_size: tuple[int, int] | None = None,
) -> tuple[TrafficElement, ...]:
    """Read `traffic_element.json` of a version's folder, in row order.

    Args:
        folder: of the version.
        lanes: of `read_lanes`; if given, every lane that an element governs must be among them.
        image_size: (H, W) px of all images; if given, every box must lie within.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field, has a value of another kind, an
            unknown name or code, a box without area or outside the image, an unknown lane, or the
            token of an earlier row. Names the row and the field.
    """
    elements: dict[str, TrafficElement] = {}
    for row in traffic_rows(folder, TRAFFIC_ELEMENT_TABLE):
        element = _parse(row, image_size)
        refuse_duplicate(row, "token", element.token, elements)
        for token in (element.lane_token, *element.lane_tokens):
            if lanes is not None and token and token not in lanes:
                raise ValueError(
                    f"{row.where('lane_token')} must be the token of a row of lane.json; "
                    f"got {shorten(token)}"
                )
        elements[element.token] = element
    return tuple(elements.values())


def read_lanes(folder: Path) -> dict[str, LaneCenterline]:
    """Read the lanes in `lane.json` of a version's folder, by token.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field, has a value of another kind, an
            unknown manoeuvre, a successor that is no row, or the token of an earlier row. Names the
            row and the field.
    """
    lanes: dict[str, LaneCenterline] = {}
    rows = list(traffic_rows(folder, LANE_TABLE))
    for row in rows:
        points = expect_list(row.where("centerline"), row.field("centerline"))
        width = len(points[0]) if points and isinstance(points[0], list) else 2  # (x, y) or more
        token = row.text("token")
        refuse_duplicate(row, "token", token, lanes)
        stops: list[float] = []
        if row.has("stop_line_s_m"):
            count = len(expect_list(row.where("stop_line_s_m"), row.field("stop_line_s_m")))
            stops = row.numbers("stop_line_s_m", (count,)).tolist()
        lanes[token] = LaneCenterline(
            token,
            row.text("scene_token"),
            row.numbers("centerline", (len(points), max(width, 2))),
            row.texts("successors") if row.has("successors") else (),
            tuple(stops),
            row.texts("manoeuvres", MANOEUVRES) if row.has("manoeuvres") else (),
        )
    for row, lane in zip(rows, lanes.values(), strict=True):
        for successor in lane.successors:
            if successor not in lanes:
                raise ValueError(
                    f"{row.where('successors')} must be tokens of rows of lane.json; "
                    f"got {shorten(successor)}"
                )
    return lanes


def _box(row: TrafficRow, image_size: tuple[int, int] | None) -> tuple[float, float, float, float]:
    (left, top), (right, bottom) = row.numbers("points", (2, 2)).tolist()
    height, width = image_size if image_size is not None else (np.inf, np.inf)
    if not (0.0 <= left <= right <= width and 0.0 <= top <= bottom <= height):
        limits = "" if image_size is None else f" of {width}x{height} px"
        raise ValueError(
            f"{row.where('points')} must be two corners within the image{limits}, the upper left "
            f"one first; got {shorten(row.field('points'))}"
        )
    return left, top, right, bottom


def _lamp_pixels(row: TrafficRow) -> float:
    pixels = row.number("lamp_pixels")
    if pixels < 0:
        raise ValueError(f"{row.where('lamp_pixels')} must be at least 0; got {shorten(pixels)}")
    return pixels


def _parse(row: TrafficRow, image_size: tuple[int, int] | None) -> TrafficElement:
    x, y, z = row.numbers("translation", (3,)).tolist()
    width, depth, height = row.numbers("size", (3,)).tolist()
    qw, _, _, qz = row.numbers("rotation", (4,))
    lamps: tuple[Lamp, ...] | None = row.lamps("lamps") if row.has("lamps") else None
    return TrafficElement(
        token=row.text("token"),
        instance_token=row.text("instance_token"),
        sample_token=row.text("sample_token"),
        sample_data_token=row.text("sample_data_token"),
        camera=row.text("camera"),
        category=row.code("category", TRAFFIC_LIGHT, ROAD_SIGN),
        attribute=row.code("attribute", 0, len(TRAFFIC_ELEMENT_ATTRIBUTES) - 1),
        box_px=_box(row, image_size),
        position_m=(x, y, z),
        size_m=(depth, width, height),
        yaw_rad=float(2 * np.arctan2(qz, qw)),
        visibility=row.number("visibility"),
        lane_token=row.text("lane_token"),
        lane_tokens=row.texts("lane_tokens") if row.has("lane_tokens") else (),
        lamps=lamps,
        is_dark=row.flag("is_dark") if row.has("is_dark") else False,
        lamp_pixels=_lamp_pixels(row) if row.has("lamp_pixels") else None,
        meaning=row.name("meaning", SIGN_MEANINGS) if row.has("meaning") else None,
        speed_limit_mps=row.number("speed_limit_mps") if row.has("speed_limit_mps") else None,
        manoeuvres=row.texts("manoeuvres", MANOEUVRES) if row.has("manoeuvres") else (),
        road_user=row.name("road_user", ROAD_USERS) if row.has("road_user") else "vehicle",
    )
