"""One JSON table as columns: only the wanted fields, with errors that name table, row and field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_ROW = -1  # what an empty token resolves to


class TableColumns:
    """The wanted fields of one table, in file order.

    Nothing is kept of the other fields, so a table costs little more memory than what is used.

    Args:
        path: the table's ``.json`` file, a list of objects.
        fields: names of the fields to keep; ``token`` is always kept.

    Raises:
        FileNotFoundError: no such table.
        ValueError: not JSON, not a list of objects, or a row without a wanted field.
    """

    def __init__(self, path: Path, fields: tuple[str, ...]) -> None:
        self.name = path.stem
        self._path = path
        names = ("token", *fields)
        rows = _read_rows(path, names)
        self._columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self._columns["token"])

    def values(self, field: str) -> list[object]:
        """The field as it stands in the file."""
        return self._columns[field]

    def text(self, field: str) -> NDArray[np.str_]:
        """A field of strings."""
        values = self._columns[field]
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(f"{self.where(row, field)} must be a string; got {value!r}")
        return np.array(values, dtype=np.str_)

    def integers(self, field: str) -> NDArray[np.int64]:
        """A field of whole numbers."""
        values = self._columns[field]
        for row, value in enumerate(values):
            if not isinstance(value, int):
                raise ValueError(f"{self.where(row, field)} must be a whole number; got {value!r}")
        return np.array(values, dtype=np.int64)

    def floats(
        self, field: str, shape: tuple[int, ...], *, finite: bool = True
    ) -> NDArray[np.float64]:
        """A field of nested lists of numbers, as (rows, *shape); ``[]`` becomes NaN.

        Only with ``finite=False`` may there be NaN (or ``[]``) and infinity.
        """
        filler = np.full(shape, np.nan).tolist()
        values = [filler if value == [] else value for value in self._columns[field]]
        array = np.empty((len(values), *shape))
        try:
            array[:] = np.array(values, dtype=np.float64).reshape(array.shape)
        except (ValueError, TypeError):
            row = _first_misshapen(values, shape)
            raise ValueError(
                f"{self.where(row, field)} must hold numbers of shape {shape}; got {values[row]!r}"
            ) from None
        if finite and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise ValueError(
                f"{self.where(row, field)} must be finite; got {self._columns[field][row]!r}: "
                f"correct it in {self._path}"
            )
        return array

    def index(self) -> dict[str, int]:
        """Row of every token.

        Raises:
            ValueError: a token that stands twice.
        """
        tokens = self._columns["token"]
        index = {str(token): row for row, token in enumerate(tokens)}
        if len(index) != len(tokens):
            twice = next(token for row, token in enumerate(tokens) if index[str(token)] != row)
            raise ValueError(f"{self._path}: every token must stand once; got {twice!r} twice")
        return index

    def links(
        self, field: str, target: str, index: Mapping[str, int], *, optional: bool = False
    ) -> NDArray[np.int32]:
        """Rows of the table ``target`` that a field of tokens points to.

        With ``optional`` the empty token "" becomes ``NO_ROW``.

        Raises:
            ValueError: a token that ``target`` does not hold.
        """
        known: Mapping[Any, int] = {**index, "": NO_ROW} if optional else index
        values = self._columns[field]
        try:
            rows = [known[value] for value in values]
        except (KeyError, TypeError):
            row = next(r for r, v in enumerate(values) if not isinstance(v, str) or v not in known)
            raise ValueError(
                f"{self.where(row, field)} must be a token of {target}.json; got "
                f"{values[row]!r}, which is not there: the tables are incomplete or of different "
                "versions; unpack the version's metadata again"
            ) from None
        return np.array(rows, dtype=np.int32)

    def where(self, row: int, field: str) -> str:
        """Names one value in a message."""
        return f"{field} in {self.name}.json (row {row}, token {self._columns['token'][row]!r})"


def _read_rows(path: Path, names: tuple[str, ...]) -> Sequence[tuple[object, ...]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"table {path.stem!r} must exist at {path}; got no such file: unpack the metadata "
            f"archive of {path.parent.name} into {path.parent.parent}"
        ) from None
    try:
        # token twice: of a single name, itemgetter would not make a tuple
        rows = json.loads(data, object_hook=itemgetter(*names, "token"))
    except KeyError:
        rows = _pick_fields(path, json.loads(data), names)
    except ValueError as error:
        raise ValueError(
            f"{path} must be JSON; got {error}: the file is damaged or cut off; unpack the "
            f"metadata archive of {path.parent.name} again"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, tuple) for row in rows):
        raise ValueError(f"{path} must be a JSON list of objects; got another structure")
    return rows


def _pick_fields(path: Path, rows: object, names: tuple[str, ...]) -> list[tuple[object, ...]]:
    """The plain way: for a row that lacks a field, or that holds objects of its own."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} must be a JSON list of objects; got another structure")
    for number, row in enumerate(rows):
        for name in names:
            if name not in row:
                raise ValueError(
                    f"{path}: row {number} must have the field {name!r}; got {', '.join(row)}"
                )
    return [tuple(row[name] for name in names) for row in rows]


def _first_misshapen(values: Sequence[object], shape: tuple[int, ...]) -> int:
    for row, value in enumerate(values):
        try:
            if np.array(value, dtype=np.float64).shape != shape:
                return row
        except (ValueError, TypeError):
            return row
    return 0
