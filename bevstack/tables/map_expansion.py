"""Lane borders of nuScenes' map expansion, which is downloaded apart from the data.

The file of a city is `maps/expansion/<location>.json`: `road_divider` and `lane_divider` are lines,
which refer to nodes with x and y in metres in the world frame (nuscenes-devkit, `map_api.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.files import path_inside
from bevstack.json_files import read_json

Points = NDArray[np.float64]  # (P, 2) metres, world frame

LAYERS = ("road_divider", "lane_divider")
MAX_BYTES = 1 << 28  # of a city's file; the largest of version 1.3 has 40 MB


def read_lane_borders(root: Path, location: str) -> tuple[Points, ...]:
    """Return the borders between lanes of a city; none if the expansion is not there.

    Raises:
        ValueError: the location is not a plain name, or the file is damaged; names the file.
    """
    name = f"maps/expansion/{location}.json"
    path = path_inside(root, name, what="location in log.json")
    if not path.exists():
        return ()
    content = read_json(path, "map expansion", max_bytes=MAX_BYTES)
    try:
        return tuple(_lines(content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"map expansion must hold the layers node, line and {' and '.join(LAYERS)} of nuScenes;"
            f" got {type(error).__name__} {str(error)[:80]} in {path}: take the original file, or "
            "remove it"
        ) from error


def _lines(content: Any) -> list[Points]:
    nodes = {node["token"]: (float(node["x"]), float(node["y"])) for node in content["node"]}
    lines = {line["token"]: line["node_tokens"] for line in content["line"]}
    found = []
    for layer in LAYERS:
        for divider in content[layer]:
            points = np.array([nodes[token] for token in lines[divider["line_token"]]], np.float64)
            if len(points) > 1:
                found.append(points)
    return found
