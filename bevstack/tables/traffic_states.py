"""Readers of the tables of the preset `lights`: `traffic_state.json` and `ego_lane.json`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bevstack.json_files import expect_integer, expect_list, shorten
from bevstack.tables.names import EGO_LANE_TABLE, TRAFFIC_STATE_TABLE
from bevstack.tables.traffic_rows import TrafficRow, read_lamps, refuse_duplicate, traffic_rows
from bevstack.types.traffic import EgoLane, ElementTimeline, LaneCenterline
from bevstack.vocabulary import MANOEUVRES

_LAST_US = (1 << 63) - 1


def read_timelines(folder: Path) -> dict[str, ElementTimeline]:
    """Read the states of lights in `traffic_state.json` of a version's folder, by instance token.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field, has a value of another kind, an
            unknown lamp, times that do not ascend, or the token of an earlier row. Names the row
            and the field.
    """
    timelines: dict[str, ElementTimeline] = {}
    for row in traffic_rows(folder, TRAFFIC_STATE_TABLE):
        token = row.text("instance_token")
        refuse_duplicate(row, "instance_token", token, timelines)
        timelines[token] = _timeline(row, token)
    return timelines


def _timeline(row: TrafficRow, token: str) -> ElementTimeline:
    place = row.where("timestamp_us")
    times = [
        expect_integer(f"{place}[{number}]", value, low=0, high=_LAST_US)
        for number, value in enumerate(expect_list(place, row.field("timestamp_us")))
    ]
    if not times or any(a >= b for a, b in itertools.pairwise(times)):
        raise ValueError(f"{place} must be one or more ascending times; got {shorten(times)}")
    states = expect_list(row.where("lamps"), row.field("lamps"))
    if len(states) != len(times):
        raise ValueError(
            f"{row.where('lamps')} must have one state for each of {len(times)} times; "
            f"got {len(states)}"
        )
    flash_hz = row.number("flash_hz")
    if flash_hz < 0.0:
        raise ValueError(f"{row.where('flash_hz')} must be 0 or more; got {flash_hz}")
    return ElementTimeline(
        token,
        row.text("scene_token"),
        np.array(times, np.int64),
        tuple(read_lamps(f"{row.where('lamps')}[{i}]", state) for i, state in enumerate(states)),
        flash_hz,
        row.code("flash_offset_us", 0, _LAST_US),
    )


def read_ego_lanes(
    folder: Path, *, lanes: Mapping[str, LaneCenterline] | None = None
) -> dict[str, EgoLane]:
    """Read the ego's lanes in `ego_lane.json` of a version's folder, by sample token.

    Args:
        folder: of the version.
        lanes: of `read_lanes`; if given, every lane must be among them.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list, or a row lacks a field, has a value of another kind, an
            unknown manoeuvre or lane, or the sample of an earlier row. Names the row and the field.
    """
    found: dict[str, EgoLane] = {}
    for row in traffic_rows(folder, EGO_LANE_TABLE):
        sample, lane = row.text("sample_token"), row.text("lane_token")
        refuse_duplicate(row, "sample_token", sample, found)
        if lanes is not None and lane not in lanes:
            raise ValueError(
                f"{row.where('lane_token')} must be the token of a row of lane.json; "
                f"got {shorten(lane)}"
            )
        distance = None if row.field("stop_line_m") is None else row.number("stop_line_m")
        found[sample] = EgoLane(sample, lane, row.name("manoeuvre", MANOEUVRES), distance)
    return found
