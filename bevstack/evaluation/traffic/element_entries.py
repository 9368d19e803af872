"""Predicted elements as JSON objects: their fields, and the strict way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.entry_fields import (
    FieldReader,
    duration,
    member,
    numbers,
    optional,
    probability,
    read_fields,
)
from bevstack.json_files import expect_flag, expect_integer, expect_number, shorten
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import (
    LAMP_SHAPES,
    LIGHT_COLORS,
    MANOEUVRES,
    ROAD_SIGN,
    SIGN_MEANINGS,
    TRAFFIC_LIGHT,
)

# Fields that are objects from name to number, and their names in the order of the arrays.
NAMED = {
    "color": LIGHT_COLORS,
    "shape": LAMP_SHAPES,
    "meaning": SIGN_MEANINGS,
    "relevance": MANOEUVRES,
}
# Fields that all elements of a frame have, or none.
OPTIONAL: dict[str, FieldReader] = {
    "lamp_box": expect_flag,
    "pedestrian": probability,
    "speed_limit_mps": optional(duration),
}


def _category(where: str, value: Any) -> int:
    return expect_integer(where, value, low=TRAFFIC_LIGHT, high=ROAD_SIGN)


def _named(names: tuple[str, ...], read: FieldReader) -> FieldReader:
    """Return the reader of an object from each of the names to a number, as a list."""

    def read_all(where: str, value: Any) -> list[float]:
        return list(read_fields(where, value, dict.fromkeys(names, read)).values())

    return read_all


_FIELDS: dict[str, FieldReader] = {
    "boxes_px": numbers(4),
    "scores": probability,
    "category": _category,
    **{name: _named(NAMED[name], probability) for name in ("color", "shape", "meaning")},
    "position_m": numbers(3),
    "position_cov_m2": numbers(3, 3),
    "heading_rad": expect_number,
    "heading_std_rad": duration,
    "relevance": _named(MANOEUVRES, expect_number),
}
# Names of the fields in a file where they differ from those of TrafficDetections.
_ENTRY_NAMES = {"boxes_px": "box_px", "scores": "score"}


def elements_to_json(elements: TrafficDetections, cameras: Sequence[str]) -> list[dict[str, Any]]:
    """Return the elements of a frame as JSON objects, in their order.

    Args:
        elements: the elements.
        cameras: names of the frame's cameras, which ``elements.camera`` indexes.
    """
    columns = {name: getattr(elements, name).tolist() for name in _FIELDS}
    present = [name for name in OPTIONAL if getattr(elements, name) is not None]
    columns |= {name: getattr(elements, name).tolist() for name in present}
    for name, names in NAMED.items():
        columns[name] = [dict(zip(names, row, strict=True)) for row in columns[name]]
    if "speed_limit_mps" in columns:
        columns["speed_limit_mps"] = [None if v != v else v for v in columns["speed_limit_mps"]]
    return [
        {"camera": cameras[camera]}
        | {_ENTRY_NAMES.get(name, name): values[row] for name, values in columns.items()}
        for row, camera in enumerate(elements.camera.tolist())
    ]


def elements_from_json(
    where: str, entries: Sequence[Any], cameras: tuple[str, ...]
) -> TrafficDetections:
    """Return the elements of JSON objects; ``where`` is their place in messages.

    Raises:
        ValueError: a field is missing, unknown or not of its kind, or elements have different
            fields.
    """
    if not entries:
        return TrafficDetections.empty()
    first = entries[0] if isinstance(entries[0], dict) else {}
    present = {name: read for name, read in OPTIONAL.items() if name in first}
    fields = _FIELDS | present
    readers = {"camera": member(cameras)}
    readers |= {_ENTRY_NAMES.get(name, name): read for name, read in fields.items()}
    rows = []
    for index, entry in enumerate(entries):
        place = f"elements[{index}] of {where}"
        rows.append(read_fields(place, entry, readers))
        _check_order(place, rows)
    columns = {
        name: _column(name, [row[_ENTRY_NAMES.get(name, name)] for row in rows]) for name in fields
    }
    camera = np.array([cameras.index(row["camera"]) for row in rows], np.int64)
    return TrafficDetections(camera=camera, **columns)


def _check_order(place: str, rows: Sequence[dict[str, Any]]) -> None:
    """Check that the last element is not better than the one before."""
    if len(rows) > 1 and rows[-1]["score"] > rows[-2]["score"]:
        raise ValueError(
            f"score of {place} must not exceed the one before, as elements are sorted; "
            f"got {shorten(rows[-1]['score'])} after {shorten(rows[-2]['score'])}"
        )


def _column(name: str, values: list[Any]) -> NDArray[Any]:
    if name == "category":
        return np.array(values, np.int64)
    if name == "lamp_box":
        return np.array(values, np.bool_)
    return np.array([np.nan if v is None else v for v in values], np.float64)
