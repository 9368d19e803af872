"""Kinds of the label documents that are text: CSV, XML, lists of numbers and YAML.

Their values have no type of their own, so a number is a text that reads as one.
"""

from __future__ import annotations

import math
import re
from typing import Any

from tests.fuzz.schema import Kind, anything, listing, one_of, record

_DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_COLORS = ("green", "red", "yellow")


def decimal(place: str, value: Any) -> str | None:
    """Accept finite decimal numbers, also as text."""
    good = not isinstance(value, (bool, list, dict)) and _DECIMAL.fullmatch(str(value))
    return None if good and math.isfinite(float(str(value))) else f"{place} is {value!r:.60}"


def scalar(place: str, value: Any) -> str | None:
    """Accept any text that is not empty; JSON's other scalars are texts, too."""
    good = not isinstance(value, (list, dict)) and str(value)
    return None if good else f"{place} is {value!r:.60}, no text"


def spelled(*names: str) -> Kind:
    """Return the kind of some texts, with or without white space around them."""

    def check(place: str, value: Any) -> str | None:
        return None if str(value).strip() in names else f"{place} is {value!r:.60}"

    return check


_ARROWS = ("", "Left", "Right", "Straight", "StraightLeft", "StraightRight")
_BSTLD_BOX = record(
    {
        "label": spelled(
            *("off", "false", "False", "FALSE", "Yellow"),
            *(f"{color}{arrow}" for color in ("Red", "Green") for arrow in _ARROWS),
        ),
        "occluded": spelled("true", "false", "True", "False"),
        **dict.fromkeys(("x_min", "x_max", "y_min", "y_max"), decimal),
    },
    open=True,
)
BSTLD = listing(record({"path": scalar, "boxes": listing(_BSTLD_BOX)}, open=True))

_LISA_TAGS = spelled(
    *(f"{state}{arrow}" for state in ("go", "stop", "warning") for arrow in _ARROWS[:3]),
    "goForward",
)


def lisa(place: str, value: Any) -> str | None:
    """Accept a header and rows of ten fields, as the reader sees them in its file."""
    lines = [";".join(map(str, row)) if isinstance(row, list) else str(row) for row in value]
    rows = [line.split(";") for text in lines for line in text.splitlines()]
    for number, row in enumerate(rows[1:]):
        if row in ([], [""]):
            continue
        if len(row) != 10:
            return f"{place} row {number} has {len(row)} fields"
        fault = _LISA_TAGS(place, row[1]) or listing(decimal)(place, row[2:6])
        if fault:
            return f"row {number}: {fault}"
    return None


def _one_or_many(kind: Kind) -> Kind:
    return one_of(kind, listing(kind))


_CORNERS = record(dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), decimal), open=True)
_OBJECT = record(
    {"name": spelled(*_COLORS, "off", "wait_on"), "bndbox": _CORNERS},
    {"occluded": _one_or_many(spelled("0", "1"))},
    open=True,
)
_SIZE = record({"width": decimal, "height": decimal}, open=True)
_S2TLD = record(
    {
        "annotation": record(
            {"filename": scalar, "size": _SIZE}, {"object": _one_or_many(_OBJECT)}, open=True
        )
    }
)


def s2tld(place: str, value: Any) -> str | None:
    """Accept what S2TLD's files hold; a list is a repeated element, so one in a list is one."""
    return _S2TLD(place, _unwrapped(value))


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {key: _unwrapped(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item != []}
    if not isinstance(value, list):
        return value
    items: list[Any] = []
    for item in map(_unwrapped, value):
        items += item if isinstance(item, list) else [item]
    return items[0] if len(items) == 1 else items


def yolo(place: str, value: Any) -> str | None:
    """Accept names of classes, and rows of a class and a box or a polygon."""
    names = value["names"]
    count = len(names)
    for number, row in enumerate(_fields(value.get("rows", []))):
        fault = listing(decimal)(place, row)
        if not fault and not (float(row[0]).is_integer() and 0 <= float(row[0]) < count):
            fault = f"class {row[0]}"
        if not fault and len(row) != 5 and (len(row) < 7 or len(row) % 2 == 0):
            fault = f"{len(row)} numbers"
        if fault:
            return f"{place} row {number}: {fault}"
    return listing(anything)(place, names) if isinstance(names, list) else None


def _fields(rows: Any) -> list[list[str]]:
    listed = rows if isinstance(rows, list) else [rows]
    lines = (" ".join(map(str, row)) if isinstance(row, list) else str(row) for row in listed)
    return [line.split() for text in lines for line in text.splitlines() if line.split()]
