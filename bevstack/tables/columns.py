"""One JSON table as columns: only the requested fields; errors name table, row and field.

msgspec parses the table in chunks. A table of two gigabytes thus needs only the memory of its
columns. If msgspec rejects the table or is not installed, the standard library parses it about five
times slower and reports the faulty value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import GenericAlias
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.file_bytes import read_bytes
from bevstack.files import naming
from bevstack.json_files import parse_json, shorten
from bevstack.tables.duplicates import check_unique
from bevstack.tables.fields import Column, Field, Floats, Tokens
from bevstack.tables.links import link_rows
from bevstack.tables.text import TextColumn

_CHUNK_BYTES = 1 << 20  # measured: rows that fit the cache of one core are packed fastest
_TAIL_BYTES = 1 << 14  # end of a chunk that is searched for the end of its last complete row
# The gap between two rows. It cannot match inside a string, because the quotation mark after the
# brace would end the string, and no word can follow. It can match inside nested objects, and then
# parsing fails.
_ROW_GAP = re.compile(rb'\}\s*,\s*(?=\{\s*"\w+"\s*:)')


class TableColumns:
    """The requested fields of one table, in file order.

    Args:
        path: the table's ``.json`` file, a list of objects.
        fields: kinds of the fields to keep, by name; ``token`` is always kept.

    Raises:
        FileNotFoundError: the table does not exist.
        ValueError: the file is not JSON or not a list of objects, a row lacks a requested field, a
            value does not have the kind of its field, or a token occurs twice.
    """

    def __init__(self, path: Path, fields: Mapping[str, Field] | None = None) -> None:
        self.name = path.stem
        self._path = path
        kinds: dict[str, Field] = {"token": Tokens(), **(fields or {})}
        if not path.is_file():
            raise FileNotFoundError(
                f"table {path.stem!r} must exist at {path}; got no file: unpack the metadata "
                f"archive of {path.parent.name} into {path.parent.parent}"
            )
        columns = _parse_with_msgspec(path, kinds)
        self._columns = _parse_with_json(path, kinds) if columns is None else columns
        self._check_finite(kinds)
        check_unique(path, "token", self.token)

    def __len__(self) -> int:
        return len(self._columns["token"])

    def check_unique(self, field: str) -> None:
        """Check that no two rows have the same value of a field of strings.

        Raises:
            ValueError: two rows have; names the value and the rows.
        """
        check_unique(self._path, field, self.text(field))

    @property
    def token(self) -> TextColumn:
        """Return the tokens of the rows."""
        return self.text("token")

    def text(self, field: str) -> TextColumn:
        """Return a field of strings."""
        column = self._columns[field]
        assert isinstance(column, TextColumn)
        return column

    def array(self, field: str) -> NDArray[Any]:
        """Return a field of numbers."""
        column = self._columns[field]
        assert isinstance(column, np.ndarray)
        return column

    def links(
        self, field: str, target: TableColumns, *, optional: bool = False
    ) -> NDArray[np.int32]:
        """Return the rows of the table ``target`` that a field of tokens points to.

        With ``optional`` the empty token "" becomes ``NO_ROW``.

        Raises:
            ValueError: a token does not occur in ``target``.
        """
        rows, missing, duplicate = link_rows(self.text(field), target.token, optional=optional)
        assert duplicate is None  # tokens are checked when a table is read
        if missing is not None:
            raise ValueError(
                f"{self.location(missing, field)} must be a token of {target.name}.json; got "
                f"{self.text(field)[missing]!r}, which does not occur there: the tables are "
                "incomplete or of different versions; unpack the version's metadata again"
            )
        return rows

    def location(self, row: int, field: str) -> str:
        """Return the name of one value for a message: field, table, row and token."""
        return _location(self.name, row, str(self.token[row]), field)

    def _check_finite(self, kinds: Mapping[str, Field]) -> None:
        for name, kind in kinds.items():
            if not isinstance(kind, Floats) or not kind.finite:
                continue
            values = self.array(name)
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise ValueError(
                    f"{self.location(row, name)} must be finite; got {values[row].tolist()!r}: "
                    f"correct it in {self._path}"
                )


def _location(table: str, row: int, token: object, field: str) -> str:
    return f"{field} in {table}.json (row {row}, token {shorten(token)})"


def _parse_with_msgspec(path: Path, kinds: Mapping[str, Field]) -> dict[str, Column] | None:
    """Return the columns; None if msgspec is not installed or rejects the table."""
    try:
        import msgspec
    except ImportError:
        return None
    fields = [
        (
            f"f{i}",
            kind.json_type,
            msgspec.field(name=name, default=None if kind.optional else msgspec.NODEFAULT),
        )
        for i, (name, kind) in enumerate(kinds.items())
    ]
    row_type = msgspec.defstruct("Row", fields, gc=False, kw_only=True)
    decoder = msgspec.json.Decoder(GenericAlias(list, (row_type,)))
    chunks: dict[str, list[Any]] = {name: [] for name in kinds}
    try:
        for text in _split_list(path):
            rows = decoder.decode(text)
            for i, (name, kind) in enumerate(kinds.items()):
                chunks[name].append(kind.pack(list(map(attrgetter(f"f{i}"), rows))))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    return {name: kind.join(chunks[name]) for name, kind in kinds.items()}


def _split_list(path: Path) -> Iterator[bytes]:
    """Split a JSON list of objects into several shorter lists."""
    with naming(path), path.open("rb") as file:
        rest = file.read(_CHUNK_BYTES)
        opening = b""
        while block := file.read(_CHUNK_BYTES):
            text = rest + block
            *_, cut = None, *_ROW_GAP.finditer(text, max(0, len(text) - _TAIL_BYTES))
            if cut is None:
                rest = text
                continue
            yield b"".join((opening, text[: cut.start() + 1], b"]"))
            opening, rest = b"[", text[cut.end() :]
        yield opening + rest


def _parse_with_json(path: Path, kinds: Mapping[str, Field]) -> dict[str, Column]:
    """Return the columns, parsed by the standard library, after a check of every value."""
    rows = _load_rows(path)
    for number, row in enumerate(rows):
        for name, kind in kinds.items():
            if name not in row and not kind.optional:
                raise ValueError(
                    f"{path}: row {number} must have the field {name!r}; got {', '.join(row)[:200]}"
                )
    for name, kind in kinds.items():
        for number, row in enumerate(rows):
            if not kind.accepts(row.get(name)):
                location = _location(path.stem, number, row["token"], name)
                raise ValueError(
                    f"{location} must {kind.requirement}; got {shorten(row.get(name))}"
                )
    try:
        return {
            name: kind.join([kind.pack([r.get(name) for r in rows])])
            for name, kind in kinds.items()
        }
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can escape
        raise ValueError(
            f"{path} must hold text that UTF-8 can encode; got {error.object[:20]!r}"
        ) from None


def _load_rows(path: Path) -> Sequence[Mapping[str, Any]]:
    data = read_bytes(path, str(path), max_bytes=None)
    try:
        rows = parse_json(data, str(path), allow_nan=True, unique_keys=False)
    except ValueError as error:
        raise ValueError(
            f"{error}; unpack the metadata archive of {path.parent.name} again"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} must be a JSON list of objects; got another structure")
    return rows
