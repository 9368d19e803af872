"""Traffic lights, stop lines and lanes of nuScenes' map expansion, version 1.3.

Layers as in nuscenes-devkit, `map_api.py` and `arcline_path_utils.py`: a `stop_line` of the type
TRAFFIC_LIGHT is a polygon that names its `traffic_light` records; `arcline_path_3` gives the centre
line of each lane as arcs and straight pieces, and `connectivity` the lanes that follow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.files import path_inside
from bevstack.json_files import read_json
from bevstack.tables.map_expansion import MAX_BYTES
from bevstack.types.traffic_map import MapLight, TrafficMap

Points = NDArray[np.float64]

_STEP_M = 1.0  # between points of a centre line
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
    nodes = {node["token"]: (float(node["x"]), float(node["y"])) for node in content["node"]}
    polygons = {row["token"]: row["exterior_node_tokens"] for row in content["polygon"]}
    lanes = {
        token: np.concatenate([_arcs(part) for part in parts])
        for token, parts in content["arcline_path_3"].items()
        if parts
    }
    stop_lines: dict[str, list[Points]] = {}
    for row in content["stop_line"]:
        corners = np.array([nodes[token] for token in polygons[row["polygon_token"]]], np.float64)
        for token in row.get("traffic_light_tokens", ()):
            stop_lines.setdefault(token, []).append(corners)
    return TrafficMap(
        lights=tuple(_light(row, stop_lines, lanes) for row in content["traffic_light"]),
        lanes=lanes,
        successors={
            token: tuple(row["outgoing"]) for token, row in content["connectivity"].items()
        },
    )


def _light(row: Any, stop_lines: dict[str, list[Points]], lanes: dict[str, Points]) -> MapLight:
    areas = stop_lines.get(row["token"], [])
    pose = row["pose"]
    return MapLight(
        map_id=str(row["token"]),
        position_m=(float(pose["tx"]), float(pose["ty"]), 0.0),
        height_known=False,
        lanes=tuple(
            token for token, line in lanes.items() if any(_crosses(line, area) for area in areas)
        ),
        stop_line_m=areas[0] if areas else None,
    )


def _arcs(part: Any) -> Points:  # (P, 2)
    """Return the points of a path of three arcs or straight pieces, from its start pose."""
    x, y, heading = (float(value) for value in part["start_pose"])
    points = [(x, y)]
    for letter, length in zip(part["shape"], part["segment_length"], strict=True):
        curvature = _BENDS[letter] / float(part["radius"])
        count = max(int(np.ceil(float(length) / _STEP_M)), 1)
        step = float(length) / count
        for _ in range(count):
            middle = heading + curvature * step / 2
            chord = step * np.sinc(curvature * step / 2 / np.pi)
            x, y = x + chord * np.cos(middle), y + chord * np.sin(middle)
            heading += curvature * step
            points.append((x, y))
    return np.array(points, np.float64)


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
