"""One JSON table as columns: only the wanted fields, with errors that name table, row and field.

A table is parsed and packed a piece at a time, so that one of two gigabytes needs the memory of
its columns alone. That is msgspec's work; what it refuses, and all of it where msgspec is not
installed, the standard library reads, some five times slower, and says what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.fields import Column, Field, Floats, Tokens
from bevstack.tables.links import link_rows
from bevstack.tables.text import TextColumn

_PIECE_BYTES = 1 << 20  # measured: rows that fit the cache of one core are packed fastest
_LAST_BYTES = 1 << 14  # of a piece, where the end of its last whole row is looked for
# Between two rows. It cannot stand inside a string, where the quotation mark after the brace would
# end the string and no word could follow; inside nested objects it can, and then parsing fails.
_BETWEEN_ROWS = re.compile(rb'\}\s*,\s*(?=\{\s*"\w+"\s*:)')


class TableColumns:
    """The wanted fields of one table, in file order.

    Args:
        path: the table's ``.json`` file, a list of objects.
        fields: kinds of the fields to keep, by name; ``token`` is always kept.

    Raises:
        FileNotFoundError: no such table.
        ValueError: not JSON, not a list of objects, a row without a wanted field, a value of
            another kind than its field.
    """

    def __init__(self, path: Path, fields: Mapping[str, Field] | None = None) -> None:
        self.name = path.stem
        self._path = path
        kinds: dict[str, Field] = {"token": Tokens(), **(fields or {})}
        if not path.is_file():
            raise FileNotFoundError(
                f"table {path.stem!r} must exist at {path}; got no such file: unpack the metadata "
                f"archive of {path.parent.name} into {path.parent.parent}"
            )
        columns = _fast(path, kinds)
        self._columns = _exact(path, kinds) if columns is None else columns
        self._check_finite(kinds)

    def __len__(self) -> int:
        return len(self._columns["token"])

    @property
    def token(self) -> TextColumn:
        """The tokens of the rows."""
        return self.text("token")

    def text(self, field: str) -> TextColumn:
        """A field of strings."""
        column = self._columns[field]
        assert isinstance(column, TextColumn)
        return column

    def array(self, field: str) -> NDArray[Any]:
        """A field of numbers."""
        column = self._columns[field]
        assert isinstance(column, np.ndarray)
        return column

    def links(
        self, field: str, target: TableColumns, *, optional: bool = False
    ) -> NDArray[np.int32]:
        """Rows of the table ``target`` that a field of tokens points to.

        With ``optional`` the empty token "" becomes ``NO_ROW``.

        Raises:
            ValueError: a token that ``target`` does not hold, or that stands there twice.
        """
        rows, missing, twice = link_rows(self.text(field), target.token, optional=optional)
        if twice is not None:
            raise ValueError(f"{target._path}: every token must stand once; got {twice!r} twice")
        if missing is not None:
            raise ValueError(
                f"{self.where(missing, field)} must be a token of {target.name}.json; got "
                f"{self.text(field)[missing]!r}, which is not there: the tables are incomplete or "
                "of different versions; unpack the version's metadata again"
            )
        return rows

    def where(self, row: int, field: str) -> str:
        """Names one value in a message."""
        return _where(self.name, row, str(self.token[row]), field)

    def _check_finite(self, kinds: Mapping[str, Field]) -> None:
        for name, kind in kinds.items():
            if not isinstance(kind, Floats) or not kind.finite:
                continue
            values = self.array(name)
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise ValueError(
                    f"{self.where(row, name)} must be finite; got {values[row].tolist()!r}: "
                    f"correct it in {self._path}"
                )


def _where(table: str, row: int, token: object, field: str) -> str:
    return f"{field} in {table}.json (row {row}, token {token!r})"


def _fast(path: Path, kinds: Mapping[str, Field]) -> dict[str, Column] | None:
    """The columns, or None where the exact way must find out what is wrong."""
    try:
        import msgspec
    except ImportError:
        return None
    fields = [
        (f"f{i}", k.json_type, msgspec.field(name=n)) for i, (n, k) in enumerate(kinds.items())
    ]
    decoder = msgspec.json.Decoder(list[msgspec.defstruct("Row", fields, gc=False)])  # type: ignore[misc]
    pieces: dict[str, list[Any]] = {name: [] for name in kinds}
    try:
        for text in _texts(path):
            rows = decoder.decode(text)
            for i, (name, kind) in enumerate(kinds.items()):
                pieces[name].append(kind.piece(list(map(attrgetter(f"f{i}"), rows))))
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
    return {name: kind.join(pieces[name]) for name, kind in kinds.items()}


def _texts(path: Path) -> Iterator[bytes]:
    """A list of objects as several shorter lists."""
    with path.open("rb") as file:
        rest = file.read(_PIECE_BYTES)
        opening = b""
        while block := file.read(_PIECE_BYTES):
            text = rest + block
            *_, cut = None, *_BETWEEN_ROWS.finditer(text, max(0, len(text) - _LAST_BYTES))
            if cut is None:
                rest = text
                continue
            yield b"".join((opening, text[: cut.start() + 1], b"]"))
            opening, rest = b"[", text[cut.end() :]
        yield opening + rest


def _exact(path: Path, kinds: Mapping[str, Field]) -> dict[str, Column]:
    """The columns by way of the standard library, every value looked at."""
    rows = _rows(path)
    for number, row in enumerate(rows):
        for name in kinds:
            if name not in row:
                raise ValueError(
                    f"{path}: row {number} must have the field {name!r}; got {', '.join(row)}"
                )
    for name, kind in kinds.items():
        for number, row in enumerate(rows):
            if not kind.accepts(row[name]):
                where = _where(path.stem, number, row["token"], name)
                raise ValueError(f"{where} must {kind.wanted}; got {row[name]!r}")
    return {name: kind.join([kind.piece([r[name] for r in rows])]) for name, kind in kinds.items()}


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} must be JSON; got {error}: the file is damaged or cut off; unpack the "
            f"metadata archive of {path.parent.name} again"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} must be a JSON list of objects; got another structure")
    return rows
