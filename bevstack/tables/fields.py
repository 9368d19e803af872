"""Kinds of fields in the JSON tables: what a value must be, and the column the values become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.text import CodedText, HexText, PathText, PlainText, TextColumn

Values = Sequence[Any]
Column = NDArray[Any] | TextColumn

_INT64 = range(-(2**63), 2**63)


class Field(ABC):
    """One kind of field: read in pieces of some thousand rows, then joined to a column."""

    wanted: str  # what a value must do, for messages
    json_type: Any  # what msgspec checks while it parses

    @abstractmethod
    def accepts(self, value: object) -> bool:
        """Whether a value is of this kind, where no ``json_type`` has seen to it."""

    @abstractmethod
    def piece(self, values: Values) -> Any:
        """Some values in compact form."""

    @abstractmethod
    def join(self, pieces: list[Any]) -> Column:
        """All pieces as one column."""


class Numbers(Field):
    """A field that becomes an array of one number a row."""

    dtype: type[np.generic]

    def piece(self, values: Values) -> NDArray[Any]:
        """An array."""
        return np.array(values, dtype=self.dtype)

    def join(self, pieces: list[NDArray[Any]]) -> NDArray[Any]:
        """The arrays one after the other."""
        return np.concatenate([np.empty(0, dtype=self.dtype), *pieces])


class Integers(Numbers):
    """Whole numbers; with ``or_null`` also null, which becomes 0."""

    wanted = "be a whole number"
    dtype = np.int64

    def __init__(self, *, or_null: bool = False) -> None:
        self._or_null = or_null
        self.json_type = int | None if or_null else int

    def accepts(self, value: object) -> bool:
        """A whole number of 64 bits."""
        return (isinstance(value, int) and value in _INT64) or (value is None and self._or_null)

    def piece(self, values: Values) -> NDArray[np.int64]:
        """Null as 0."""
        return super().piece([value or 0 for value in values] if None in values else values)


class Flags(Numbers):
    """True or false, or anything that Python takes for it."""

    wanted = "be true or false"
    dtype = np.bool_
    json_type = bool

    def accepts(self, value: object) -> bool:
        """Anything."""
        return True

    def piece(self, values: Values) -> NDArray[np.bool_]:
        """By Python's rule, so that null is false."""
        return super().piece(list(map(bool, values)))


class Floats(Field):
    """Nested lists of numbers, (rows, *shape); ``[]`` becomes NaN.

    Only with ``finite=False`` may there be NaN (or ``[]``) and infinity.
    """

    def __init__(self, *shape: int, finite: bool = True) -> None:
        self.shape = shape
        self.finite = finite
        self.wanted = f"hold numbers of shape {shape}"
        plain = len(shape) == 1 and finite
        self.json_type = tuple[(float,) * shape[0]] if plain else list  # type: ignore[misc]
        self._plain = plain

    def accepts(self, value: object) -> bool:
        """Numbers of the shape, or none."""
        try:
            return value == [] or np.array(value, dtype=np.float64).shape == self.shape
        except (ValueError, TypeError):
            return False

    def piece(self, values: Values) -> NDArray[np.float64]:
        """(rows, *shape)."""
        shape = (len(values), *self.shape)
        if self._plain and all(values):
            flat = chain.from_iterable(values)
            return np.fromiter(flat, np.float64, len(values) * self.shape[0]).reshape(shape)
        filler = np.full(self.shape, np.nan).tolist()
        rows = [filler if value == [] else value for value in values]
        return np.array(rows, dtype=np.float64).reshape(shape)

    def join(self, pieces: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """(rows, *shape)."""
        return np.concatenate([np.empty((0, *self.shape)), *pieces])


class Tokens(Field):
    """Tokens, "" for none, in 16 bytes each where all are of 32 hexadecimal digits."""

    wanted = "be a string"
    json_type: Any = str

    def accepts(self, value: object) -> bool:
        """A string."""
        return isinstance(value, str)

    def piece(self, values: Values) -> NDArray[np.uint8] | list[str]:
        """Packed bytes, or the strings where that cannot be."""
        packed = HexText.pack(values)
        return list(values) if packed is None else packed

    def join(self, pieces: list[NDArray[np.uint8] | list[str]]) -> TextColumn:
        """Packed only if all pieces are."""
        if all(isinstance(piece, np.ndarray) for piece in pieces):
            return HexText(np.concatenate([np.empty((0, 16), dtype=np.uint8), *pieces]))
        strings = (HexText(p).tolist() if isinstance(p, np.ndarray) else p for p in pieces)
        return PlainText.of(list(chain.from_iterable(strings)))


class AtMostOneToken(Tokens):
    """Lists of at most one token, as nuScenes has them for attributes; "" for none."""

    wanted = "be a list of at most one token of attribute.json"
    json_type = list[str]

    def accepts(self, value: object) -> bool:
        """A list of one string, or an empty one."""
        return isinstance(value, list) and len(value) < 2 and all(isinstance(t, str) for t in value)

    def piece(self, values: Values) -> NDArray[np.uint8] | list[str]:
        """The single tokens.

        Raises:
            ValueError: a list of several.
        """
        if set(map(len, values)) - {0, 1}:
            raise ValueError("every list must hold at most one token; got more")
        return super().piece([value[0] if value else "" for value in values])


class Text(Field):
    """Strings of any kind."""

    wanted = "be a string"
    json_type = str

    def accepts(self, value: object) -> bool:
        """A string."""
        return isinstance(value, str)

    def piece(self, values: Values) -> Any:
        """As they are."""
        return list(values)

    def join(self, pieces: list[Any]) -> TextColumn:
        """As UTF-8."""
        return PlainText.of(list(chain.from_iterable(pieces)))


class Names(Text):
    """Strings of which there are few different ones."""

    def piece(self, values: Values) -> tuple[NDArray[np.int64], list[str]]:
        """Codes and the strings they stand for, of these rows alone."""
        codes = {name: code for code, name in enumerate(dict.fromkeys(values))}
        rows = map(codes.__getitem__, values)
        return np.fromiter(rows, np.int64, len(values)), list(codes)

    def join(self, pieces: list[tuple[NDArray[np.int64], list[str]]]) -> CodedText:
        """One set of codes for all rows, in the order in which the strings appear."""
        codes: dict[str, int] = {}
        joined = [np.empty(0, dtype=np.int64)]
        for rows, names in pieces:
            common = [codes.setdefault(name, len(codes)) for name in names]
            joined.append(np.array(common, dtype=np.int64)[rows])
        return CodedText.of(np.concatenate(joined), list(codes))


class Paths(Text):
    """File names; nuScenes' say folder, log and sensor before the last "__", and then the time."""

    def __init__(self) -> None:
        self._heads = Names()

    def piece(self, values: Values) -> tuple[Any, PlainText]:
        """Beginnings as names, endings as they are."""
        if not values:
            return self._heads.piece([]), PlainText.of([])
        heads, marks, tails = zip(*[value.rpartition("__") for value in values], strict=True)
        if set(marks) != {"__"}:
            return self._heads.piece([""] * len(values)), PlainText.of(values)
        codes, names = self._heads.piece(heads)
        return (codes, [name + "__" for name in names]), PlainText.of(tails)

    def join(self, pieces: list[tuple[Any, PlainText]]) -> PathText:
        """Both parts of all rows."""
        tails = [piece.arrays()["text"] for _, piece in pieces]
        width = max((tail.shape[1] for tail in tails), default=1)
        padded = [np.pad(tail, ((0, 0), (0, width - tail.shape[1]))) for tail in tails]
        joined = np.concatenate([np.empty((0, width), dtype=np.uint8), *padded])
        return PathText(self._heads.join([heads for heads, _ in pieces]), PlainText(joined))
