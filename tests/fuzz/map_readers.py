"""Readers of a city's map and of a file of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bevstack.tables.classes import read_classes
from bevstack.tables.map_expansion import read_lane_borders
from bevstack.tables.map_expansion_lights import read_map_lights
from bevstack.vocabulary import DETECTION_CLASSES
from tests.fuzz import mutations
from tests.fuzz.reader import Reader, start_with, write_file
from tests.fuzz.schema import (
    listing,
    mapping,
    members,
    null,
    number,
    one_of,
    record,
    string,
)
from tests.tables import test_map_expansion, test_map_expansion_lights

_COORDINATE = number(-1e8, 1e8)
_DIVIDERS = listing(record({"line_token": string}, open=True))
_PATH = record(
    {
        "start_pose": listing(_COORDINATE, 3),
        "shape": string,
        "radius": number(0.1),
        "segment_length": listing(number(-1e7, 1e7)),
    },
    open=True,
)
_STOP_LINE = record({"polygon_token": string}, {"traffic_light_tokens": listing(string)}, open=True)
_LIGHT = record(
    {"token": string, "pose": record({"tx": _COORDINATE, "ty": _COORDINATE}, open=True)}, open=True
)
EXPANSION = record(
    {
        "node": listing(record({"token": string, "x": _COORDINATE, "y": _COORDINATE}, open=True)),
        "line": listing(record({"token": string}, open=True)),
        "road_divider": _DIVIDERS,
        "lane_divider": _DIVIDERS,
        "polygon": listing(record({"token": string}, open=True)),
        "stop_line": listing(_STOP_LINE),
        "traffic_light": listing(_LIGHT),
        "arcline_path_3": mapping(listing(_PATH)),
        "connectivity": mapping(record({"outgoing": listing(string)}, open=True)),
    },
    open=True,
)


def _expansion() -> Any:
    """Return a map with borders and with lights."""
    borders, lights = test_map_expansion.expansion(), test_map_expansion_lights.content()
    return {**borders, **lights, "node": [*borders["node"], *lights["node"]]}


def _read_expansion(folder: Path, content: Any) -> None:
    (folder / "maps" / "expansion").mkdir(parents=True, exist_ok=True)
    write_file(folder / "maps" / "expansion" / "town.json", content)
    read_lane_borders(folder, "town")
    read_map_lights(folder, "town")


def _read_classes(folder: Path, content: Any) -> None:
    read_classes(write_file(folder / "classes.json", content))


MAP_READERS = (
    Reader(
        name="map_expansion",
        start=lambda folder: [_expansion()],
        mutate=mutations.mutate_json,
        read=_read_expansion,
        kind=EXPANSION,
    ),
    Reader(
        name="classes",
        start=start_with({"car": "car", "vehicle.truck": "truck", "dog": None}),
        mutate=mutations.mutate_json,
        read=_read_classes,
        kind=mapping(one_of(null, members(*DETECTION_CLASSES))),
    ),
)
