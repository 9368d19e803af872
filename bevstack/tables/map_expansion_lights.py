"""Traffic lights, stop lines and lanes of nuScenes' map expansion, version 1.3.

Layers as in nuscenes-devkit, `map_api.py` and `arcline_path_utils.py`: a `stop_line` of the type
TRAFFIC_LIGHT is a polygon that names its `traffic_light` records; `arcline_path_3` gives the centre
line of each lane as arcs and straight pieces, and `connectivity` the lanes that follow.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.file_names import path_inside
from bevstack.json_files import expect_list, expect_number, expect_object, read_json
from bevstack.tables.map_expansion import (
    MAX_BYTES,
    as_text,
    coordinate,
    places,
    read_nodes,
    rows_of,
    text_of,
)
from bevstack.types.traffic_map import MapLight, TrafficMap

Points = NDArray[np.float64]

_STEP_M = 1.0  # between points of a centre line
_LONGEST_M = 1e7  # of all centre lines of a city together
_SMALLEST_RADIUS_M = 0.1
_BENDS = {"L": 1.0, "S": 0.0, "R": -1.0}  # sign of the curvature of a piece


def read_map_lights(root: Path, location: str) -> TrafficMap | None:
    """Read the lights, stop lines and lanes of a city; None if the expansion is not there.

    A light governs the lanes whose centre lines cross its stop line. The expansion has no heights.

    Raises:
        ValueError: the location is not a plain name, or the file is damaged; names the file.
    """
    path = path_inside(root, f"maps/expansion/{location}.json", what="location in log.json")
    if not path.exists():
        return None
    content = read_json(path, "map expansion", max_bytes=MAX_BYTES)
    try:
        return _traffic_map(content)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(
            "map expansion must hold the layers node, polygon, stop_line, traffic_light, "
            f"arcline_path_3 and connectivity of nuScenes; got {type(error).__name__} "
            f"{str(error)[:80]} in {path}: take the original file, or remove it"
        ) from error


def _traffic_map(content: Any) -> TrafficMap:
    nodes = read_nodes(content)
    polygons = {
        text_of(row, "token"): row["exterior_node_tokens"] for row in rows_of(content, "polygon")
    }
    paths = {
        token: [expect_object("a path", part) for part in expect_list("arcline_path_3", parts)]
        for token, parts in expect_object("arcline_path_3", content["arcline_path_3"]).items()
    }
    _check_length(paths)
    lanes = {token: np.concatenate([_arcs(p) for p in ps]) for token, ps in paths.items() if ps}
    stop_lines: dict[str, list[Points]] = {}
    for row in rows_of(content, "stop_line"):
        corners = places(nodes, polygons[text_of(row, "polygon_token")])
        for token in _names("traffic_light_tokens", row.get("traffic_light_tokens", [])):
            stop_lines.setdefault(token, []).append(corners)
    connectivity = expect_object("connectivity", content["connectivity"])
    return TrafficMap(
        lights=tuple(_light(row, stop_lines, lanes) for row in rows_of(content, "traffic_light")),
        lanes=lanes,
        successors={
            token: _names("outgoing", expect_object("connectivity", row)["outgoing"])
            for token, row in connectivity.items()
        },
    )


def _names(name: str, values: object) -> tuple[str, ...]:
    return tuple(as_text(f"one of {name}", value) for value in expect_list(name, values))


def _light(
    row: dict[str, Any], stop_lines: dict[str, list[Points]], lanes: dict[str, Points]
) -> MapLight:
    token = text_of(row, "token")
    areas = stop_lines.get(token, [])
    pose = expect_object("pose", row["pose"])
    return MapLight(
        map_id=token,
        position_m=(coordinate("tx", pose["tx"]), coordinate("ty", pose["ty"]), 0.0),
        height_known=False,
        lanes=tuple(
            token for token, line in lanes.items() if any(_crosses(line, area) for area in areas)
        ),
        stop_line_m=areas[0] if areas else None,
    )


def _check_length(paths: dict[str, list[dict[str, Any]]]) -> None:
    """Raise ValueError if the paths are longer than any city's: they become points."""
    total_m = 0.0
    for part in itertools.chain.from_iterable(paths.values()):
        lengths = expect_list("segment_length", part["segment_length"])
        total_m += sum(abs(expect_number("segment_length", length)) for length in lengths)
    if total_m > _LONGEST_M:
        raise ValueError(f"arcline_path_3 must have at most {_LONGEST_M:g} m; got {total_m:g}")


def _arcs(part: dict[str, Any]) -> Points:  # (P, 2)
    """Return the points of a path of three arcs or straight pieces, from its start pose."""
    start = expect_list("start_pose", part["start_pose"])
    x, y, heading = (coordinate("start_pose", value) for value in start)
    radius_m = expect_number("radius", part["radius"])
    if radius_m < _SMALLEST_RADIUS_M:
        raise ValueError(f"radius must be at least {_SMALLEST_RADIUS_M} m; got {radius_m:g}")
    pieces = [np.array([[x, y]])]
    for letter, length in zip(text_of(part, "shape"), part["segment_length"], strict=True):
        count = max(int(np.ceil(length / _STEP_M)), 1)
        step, turn = length / count, length / count * _BENDS[letter] / radius_m
        middles = heading + turn * (np.arange(count) + 0.5)
        chord = step * np.sinc(turn / 2 / np.pi)
        moves = chord * np.stack((np.cos(middles), np.sin(middles)), 1)
        pieces.append(pieces[-1][-1] + moves.cumsum(0))
        heading += turn * count
    return np.concatenate(pieces)


def _crosses(line: Points, area: Points) -> bool:
    """Return True if a point of a line, at most half a metre from its neighbours, is in an area."""
    low, high = area.min(0) - 1, area.max(0) + 1
    near = line[((line >= low) & (line <= high)).all(1)]
    if len(near) > 1:
        near = np.concatenate((near, (near[:-1] + near[1:]) / 2))
    # Relative to a corner: OpenCV takes float32, whose steps are 0.1 mm at 1 km.
    outline = (area - area[0]).astype(np.float32)
    places = (near - area[0]).tolist()
    return any(cv2.pointPolygonTest(outline, (x, y), False) >= 0 for x, y in places)
