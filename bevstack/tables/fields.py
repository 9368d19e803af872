"""Kinds of fields in the JSON tables, and the columns that their values become."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from types import GenericAlias
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.text import CodedText, HexText, PathText, PlainText, TextColumn

Values = Sequence[Any]
Column = NDArray[Any] | TextColumn

_INT64 = range(-(2**63), 2**63)
_FLOAT_LIMIT = 2**1023  # whole numbers beyond it may be no float64


class Field(ABC):
    """One kind of field; values are packed in chunks of some thousand rows, then joined."""

    optional = False  # True: a row may lack the field, as if it were null
    requirement: str  # completes "<value> must ..." in error messages
    json_type: Any  # the type that msgspec enforces while it parses

    @abstractmethod
    def accepts(self, value: object) -> bool:
        """Return True if a value that msgspec has not checked is of this kind."""

    @abstractmethod
    def pack(self, values: Values) -> Any:
        """Pack the values of one chunk into a compact form."""

    @abstractmethod
    def join(self, chunks: list[Any]) -> Column:
        """Join all packed chunks to one column."""


class Numbers(Field):
    """A field that becomes an array with one number a row."""

    dtype: type[np.generic]

    def pack(self, values: Values) -> NDArray[Any]:
        """Pack values into an array."""
        return np.array(values, dtype=self.dtype)

    def join(self, chunks: list[NDArray[Any]]) -> NDArray[Any]:
        """Concatenate the arrays."""
        return np.concatenate([np.empty(0, dtype=self.dtype), *chunks])


class Integers(Numbers):
    """Whole numbers.

    Args:
        low: the smallest one; None: any of 64 bits.
        or_null: accept null, which becomes 0.
    """

    dtype = np.int64

    def __init__(self, *, low: int | None = None, or_null: bool = False) -> None:
        self._or_null, self._low = or_null, low
        limit = "" if low is None else f" of {low} or more"
        self.requirement = f"be a whole number{limit}"
        self.json_type = int | None if or_null else int

    def accepts(self, value: object) -> bool:
        """Return True for a whole number of 64 bits."""
        if value is None:
            return self._or_null
        if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
            return False
        return self._low is None or value >= self._low

    def pack(self, values: Values) -> NDArray[np.int64]:
        """Pack values into an array, null as 0.

        Raises:
            ValueError: a number is below the smallest one, which msgspec does not check.
        """
        packed = super().pack([value or 0 for value in values] if None in values else values)
        if self._low is not None and len(packed) and packed.min() < self._low:
            raise ValueError(f"numbers must {self.requirement}; got {packed.min()}")
        return packed


class Flags(Numbers):
    """JSON booleans; text, 0, 1 and null are refused."""

    requirement = "be true or false, without quotation marks"
    dtype = np.bool_
    json_type = bool

    def accepts(self, value: object) -> bool:
        """Return True for a boolean."""
        return isinstance(value, bool)


class Floats(Field):
    """Nested lists of numbers, (rows, *shape); ``[]`` becomes NaN.

    Args:
        shape: shape of the value of one row.
        finite: False permits NaN (also from ``[]``) and infinity.
    """

    def __init__(self, *shape: int, finite: bool = True) -> None:
        self.shape = shape
        self.finite = finite
        self.requirement = f"hold numbers of shape {shape}"
        self._plain = len(shape) == 1
        self.json_type = float
        for _ in shape:
            self.json_type = GenericAlias(list, (self.json_type,))
        if self._plain:
            self.json_type = GenericAlias(tuple, (float,) * shape[0])

    def accepts(self, value: object) -> bool:
        """Return True for numbers of the shape, or an empty list."""
        return value == [] or _are_numbers(value, self.shape)

    def pack(self, values: Values) -> NDArray[np.float64]:
        """Pack values into an array (rows, *shape)."""
        shape = (len(values), *self.shape)
        if self._plain and all(values):
            flat = chain.from_iterable(values)
            return np.fromiter(flat, np.float64, len(values) * self.shape[0]).reshape(shape)
        filler = np.full(self.shape, np.nan).tolist()
        rows = [filler if value == [] else value for value in values]
        return np.array(rows, dtype=np.float64).reshape(shape)

    def join(self, chunks: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Concatenate the arrays to (rows, *shape)."""
        return np.concatenate([np.empty((0, *self.shape)), *chunks])


def _are_numbers(value: object, shape: tuple[int, ...]) -> bool:
    """Return True for nested lists of numbers of a shape; text and booleans are no numbers."""
    if shape:
        if not isinstance(value, list) or len(value) != shape[0]:
            return False
        return all(_are_numbers(part, shape[1:]) for part in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < _FLOAT_LIMIT


class Tokens(Field):
    """Tokens, "" for none; they take 16 bytes each if all are 32 hexadecimal digits."""

    requirement = "be a string"
    json_type: Any = str

    def accepts(self, value: object) -> bool:
        """Return True for a string."""
        return isinstance(value, str)

    def pack(self, values: Values) -> NDArray[np.uint8] | list[str]:
        """Pack tokens into bytes; return the strings if one token has another form."""
        packed = HexText.pack(values)
        return list(values) if packed is None else packed

    def join(self, chunks: list[NDArray[np.uint8] | list[str]]) -> TextColumn:
        """Join the chunks, to bytes only if all chunks are bytes."""
        if all(isinstance(chunk, np.ndarray) for chunk in chunks):
            return HexText(np.concatenate([np.empty((0, 16), dtype=np.uint8), *chunks]))
        strings = (HexText(c).tolist() if isinstance(c, np.ndarray) else c for c in chunks)
        return PlainText.from_strings(list(chain.from_iterable(strings)))


class AtMostOneToken(Tokens):
    """Lists of at most one token, like nuScenes' attributes; "" for none."""

    requirement = "be a list of at most one token of attribute.json"
    json_type = list[str]

    def accepts(self, value: object) -> bool:
        """Return True for a list of one string, or an empty list."""
        return isinstance(value, list) and len(value) < 2 and all(isinstance(t, str) for t in value)

    def pack(self, values: Values) -> NDArray[np.uint8] | list[str]:
        """Pack the tokens of the lists.

        Raises:
            ValueError: a list of several tokens.
        """
        if set(map(len, values)) - {0, 1}:
            raise ValueError("every list must hold at most one token; got more")
        return super().pack([value[0] if value else "" for value in values])


class Text(Field):
    """Strings of any kind."""

    requirement = "be a string"
    json_type = str

    def accepts(self, value: object) -> bool:
        """Return True for a string."""
        return isinstance(value, str)

    def pack(self, values: Values) -> Any:
        """Return the strings unchanged."""
        return list(values)

    def join(self, chunks: list[Any]) -> TextColumn:
        """Join the strings to a UTF-8 column."""
        return PlainText.from_strings(list(chain.from_iterable(chunks)))


class Names(Text):
    """Strings with few distinct values, such as the names of categories."""

    def pack(self, values: Values) -> tuple[NDArray[np.int64], list[str]]:
        """Return codes and the distinct strings that they index, for this chunk alone."""
        codes = {name: code for code, name in enumerate(dict.fromkeys(values))}
        rows = map(codes.__getitem__, values)
        return np.fromiter(rows, np.int64, len(values)), list(codes)

    def join(self, chunks: list[tuple[NDArray[np.int64], list[str]]]) -> CodedText:
        """Join the chunks with one set of codes, in the order in which the strings appear."""
        codes: dict[str, int] = {}
        joined = [np.empty(0, dtype=np.int64)]
        for rows, names in chunks:
            common = [codes.setdefault(name, len(codes)) for name in names]
            joined.append(np.array(common, dtype=np.int64)[rows])
        return CodedText.from_codes(np.concatenate(joined), list(codes))


class Paths(Text):
    """File names, split at the last "__"; backslashes, as written on Windows, become slashes.

    A nuScenes name has folder, log and sensor before the last "__", and the timestamp behind it.
    """

    def __init__(self) -> None:
        self._heads = Names()

    def pack(self, values: Values) -> tuple[Any, PlainText]:
        """Pack the heads of the names as codes and the tails as text."""
        if not values:
            return self._heads.pack([]), PlainText.from_strings([])
        values = [value.replace("\\", "/") for value in values]
        heads, marks, tails = zip(*[value.rpartition("__") for value in values], strict=True)
        if set(marks) != {"__"}:
            return self._heads.pack([""] * len(values)), PlainText.from_strings(values)
        codes, names = self._heads.pack(heads)
        return (codes, [name + "__" for name in names]), PlainText.from_strings(tails)

    def join(self, chunks: list[tuple[Any, PlainText]]) -> PathText:
        """Join the heads and the tails of all chunks."""
        tails = [tail.arrays()["text"] for _, tail in chunks]
        width = max((tail.shape[1] for tail in tails), default=1)
        padded = [np.pad(tail, ((0, 0), (0, width - tail.shape[1]))) for tail in tails]
        joined = np.concatenate([np.empty((0, width), dtype=np.uint8), *padded])
        return PathText(self._heads.join([heads for heads, _ in chunks]), PlainText(joined))


class JsonText(Field):
    """Optional values, kept as JSON text; "" for null, and for a row without the field.

    Args:
        kind: types of the value, as a union that includes None.
        accepts: the same for a value that msgspec has not checked.
        requirement: completes "<value> must ..." in error messages.
    """

    optional = True

    def __init__(self, kind: Any, accepts: Callable[[object], bool], *, requirement: str) -> None:
        self.json_type = kind
        self.requirement = requirement
        self._accepts = accepts

    def accepts(self, value: object) -> bool:
        """Return True for null and for a value of the kind."""
        return value is None or self._accepts(value)

    def pack(self, values: Values) -> Any:
        """Return the values as JSON text."""
        return ["" if value is None else json.dumps(value) for value in values]

    def join(self, chunks: list[Any]) -> TextColumn:
        """Join the texts to a UTF-8 column."""
        return PlainText.from_strings(list(chain.from_iterable(chunks)))
