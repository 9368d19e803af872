"""Lane borders of nuScenes' map expansion, which is downloaded apart from the data.

The file of a city is `maps/expansion/<location>.json`: `road_divider` and `lane_divider` are lines,
which refer to nodes with x and y in metres in the world frame (nuscenes-devkit, `map_api.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.file_names import path_inside
from bevstack.json_files import expect_list, expect_number, expect_object, read_json, shorten

Points = NDArray[np.float64]  # (P, 2) metres, world frame

LAYERS = ("road_divider", "lane_divider")
MAX_BYTES = 1 << 28  # of a city's file; the largest of version 1.3 has 40 MB
_LARGEST_M = 1e8  # of a coordinate; ten times the largest of UTM


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


def rows_of(content: Any, layer: str) -> list[dict[str, Any]]:
    """Return the records of a layer.

    Raises:
        KeyError: there is no such layer.
        TypeError: the content is not an object.
        ValueError: the layer is not a list of objects.
    """
    return [expect_object(f"a record of {layer}", r) for r in expect_list(layer, content[layer])]


def text_of(row: dict[str, Any], name: str) -> str:
    """Return a field that names a record.

    Raises:
        KeyError: there is no such field.
        ValueError: it is not text.
    """
    return as_text(name, row[name])


def as_text(name: str, value: object) -> str:
    """Return the name of a record.

    Raises:
        ValueError: it is not text.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text; got {shorten(value)}")
    return value


def coordinate(name: str, value: object) -> float:
    """Return a coordinate in metres.

    Raises:
        ValueError: it is no number, or no place on Earth in any projection.
    """
    number = expect_number(name, value)
    if abs(number) > _LARGEST_M:
        raise ValueError(f"{name} must be at most {_LARGEST_M:g} m; got {number:g}")
    return number


def read_nodes(content: Any) -> dict[str, tuple[float, float]]:
    """Return the places of the nodes by token, in metres.

    Raises:
        KeyError: a field is missing.
        TypeError: the content is not an object.
        ValueError: a value is of another kind.
    """
    return {
        text_of(row, "token"): (coordinate("x", row["x"]), coordinate("y", row["y"]))
        for row in rows_of(content, "node")
    }


def places(nodes: dict[str, tuple[float, float]], tokens: object) -> Points:
    """Return the places of the listed nodes, (P, 2) metres.

    Raises:
        KeyError: there is no such node.
        ValueError: not a list of names.
    """
    found = [nodes[as_text("a node", token)] for token in expect_list("nodes", tokens)]
    return np.array(found, np.float64).reshape(-1, 2)


def _lines(content: Any) -> list[Points]:
    nodes = read_nodes(content)
    lines = {text_of(row, "token"): row["node_tokens"] for row in rows_of(content, "line")}
    dividers = [row for layer in LAYERS for row in rows_of(content, layer)]
    found = [places(nodes, lines[text_of(row, "line_token")]) for row in dividers]
    return [points for points in found if len(points) > 1]
