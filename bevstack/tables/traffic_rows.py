"""Rows of the traffic tables, whose fields are checked when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.file_bytes import read_bytes
from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    parse_json,
    shorten,
)
from bevstack.types.traffic import Lamp
from bevstack.vocabulary import LAMP_COLORS, LAMP_SHAPES, LAMP_STATUSES


class TrafficRow:
    """A row of a traffic table.

    Args:
        place: names the row in messages.
        values: the row; must be a JSON object.
    """

    def __init__(self, place: str, values: Any) -> None:
        self._place = place
        self._values = expect_object(place, values)

    def where(self, name: str) -> str:
        """Return the place of a field for messages."""
        return f"{name} of {self._place}"

    def has(self, name: str) -> bool:
        """Return True if the row has an optional field."""
        return name in self._values

    def field(self, name: str) -> Any:
        """Return a field of any kind."""
        return expect_field(self._place, self._values, name)

    def text(self, name: str) -> str:
        """Return a field of text, which may be empty."""
        value = self.field(name)
        if not isinstance(value, str):
            raise ValueError(f"{self.where(name)} must be a text; got {shorten(value)}")
        return value

    def name(self, name: str, names: Sequence[str]) -> str:
        """Return a field of text that is one of some names."""
        return expect_name(self.where(name), self.field(name), names)

    def texts(self, name: str, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return a field of different texts, each of them one of some names if these are given."""
        values = expect_list(self.where(name), self.field(name))
        for number, value in enumerate(values):
            place = f"{self.where(name)}[{number}]"
            if not isinstance(value, str):
                raise ValueError(f"{place} must be a text; got {shorten(value)}")
            if names is not None:
                expect_name(place, value, names)
            if value in values[:number]:
                raise ValueError(f"{place} must occur once; got {shorten(value)} twice")
        return tuple(values)

    def numbers(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return a field of finite numbers."""
        return expect_numbers(self.where(name), self.field(name), shape)

    def number(self, name: str) -> float:
        """Return a field of one finite number."""
        return expect_number(self.where(name), self.field(name))

    def code(self, name: str, low: int, high: int) -> int:
        """Return a field of a whole number in a range."""
        return expect_integer(self.where(name), self.field(name), low=low, high=high)

    def flag(self, name: str) -> bool:
        """Return a field that is true or false."""
        value = self.field(name)
        if not isinstance(value, bool):
            raise ValueError(f"{self.where(name)} must be true or false; got {shorten(value)}")
        return value

    def lamps(self, name: str) -> tuple[Lamp, ...]:
        """Return a field that is a list of lamps."""
        return read_lamps(self.where(name), self.field(name))


def expect_name(where: str, value: object, names: Sequence[str]) -> str:
    """Return a text that is one of some names."""
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{where} must be one of {', '.join(names)}; got {shorten(value)}")
    return value


def read_lamps(where: str, values: object) -> tuple[Lamp, ...]:
    """Return the lamps in a list of objects with the fields color, shape and status.

    Raises:
        ValueError: a field is missing or its name is unknown; names the place.
    """
    lamps = []
    for number, value in enumerate(expect_list(where, values)):
        row = TrafficRow(f"{where}[{number}]", value)
        color = row.name("color", LAMP_COLORS)
        lamps.append(Lamp(color, row.name("shape", LAMP_SHAPES), row.name("status", LAMP_STATUSES)))
    return tuple(lamps)


def traffic_rows(folder: Path, table: str) -> Iterator[TrafficRow]:
    """Yield the rows of a table in a version's folder.

    Raises:
        FileNotFoundError: the folder has no such table.
        ValueError: the file is not a list of objects.
    """
    for number, values in enumerate(_read(folder, table)):
        yield TrafficRow(f"row {number} of {table}.json", values)


def _read(folder: Path, table: str) -> Sequence[Any]:
    path = folder / f"{table}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"folder must hold {path.name}; got {folder}: worlds of `bevstack make-world` have "
            "this table, nuScenes does not"
        )
    rows = parse_json(read_bytes(path, str(path), max_bytes=None), str(path), allow_nan=True)
    if not isinstance(rows, list):
        raise ValueError(f"{path} must hold a list of rows; got {type(rows).__name__}")
    return rows


def refuse_duplicate(row: TrafficRow, name: str, token: str, known: object) -> None:
    """Raise ValueError if a token is among the known ones, which must be a set or mapping."""
    if token in known:  # type: ignore[operator]
        raise ValueError(f"{row.where(name)} must occur once; got {shorten(token)} twice")
