"""Columns of strings in little memory: a token is 16 bytes, a category one.

A numpy array of strings takes four bytes a character of the longest: 128 for a token, 360 for a
file name; of all readings of nuScenes trainval, 1.4 GB. These columns hold plain bytes and small
numbers, which can lie in a memory-mapped file, and are indexed as such an array is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = Any  # what numpy indexes a vector with: a number, a slice, rows, a mask
Arrays = Mapping[str, NDArray[Any]]

_BLOCK = 65_536  # rows decoded at once while iterating
_TOKEN_BYTES = 16
EMPTY_TOKEN = "0" * (2 * _TOKEN_BYTES)  # how the empty token lies among the others


class TextColumn(ABC):
    """A vector of strings that is indexed, compared and converted as a numpy array of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def arrays(self) -> Arrays:
        """The arrays it consists of, by name."""

    @abstractmethod
    def chosen(self, key: Key) -> TextColumn:
        """A column of some of the rows."""

    @abstractmethod
    def _select(self, key: Key) -> NDArray[np.str_]:
        """The strings at rows, a slice or a mask."""

    @property
    def shape(self) -> tuple[int]:
        """(rows,)."""
        return (len(self),)

    def __getitem__(self, key: Key) -> Any:
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(f"row must be within the {len(self)} of the column; got {key}")
            return self._select(np.array([key]))[0]
        return self._select(key)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            yield from self._select(slice(first, first + _BLOCK)).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a column of text must be copied to become an array; got copy=False")
        strings = self._select(slice(None))
        return strings if dtype is None else strings.astype(dtype)

    def __eq__(self, other: object) -> Any:
        return np.asarray(self) == np.asarray(other)

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    def tolist(self) -> list[str]:
        """All strings."""
        return list(self)


class PlainText(TextColumn):
    """Strings as UTF-8, padded with zeros to the longest."""

    def __init__(self, text: NDArray[np.uint8]) -> None:  # (n, bytes)
        self._text = text

    @classmethod
    def of(cls, strings: Sequence[str]) -> PlainText:
        """Packs strings; zeros at their end are lost, as in a numpy array of strings."""
        try:
            encoded = np.array(strings, dtype=np.bytes_)
        except UnicodeEncodeError:
            encoded = np.array([string.encode() for string in strings], dtype=np.bytes_)
        width = encoded.dtype.itemsize
        return cls(np.frombuffer(encoded.tobytes(), dtype=np.uint8).reshape(len(strings), width))

    def __len__(self) -> int:
        return len(self._text)

    def arrays(self) -> Arrays:
        """The arrays it consists of, by name."""
        return {"text": self._text}

    def chosen(self, key: Key) -> PlainText:
        """A column of some of the rows."""
        return PlainText(self._text[key])

    def _select(self, key: Key) -> NDArray[np.str_]:
        chosen = np.ascontiguousarray(self._text[key])
        encoded = chosen.view(f"S{chosen.shape[1]}")[:, 0]
        if chosen.size and chosen.max() > 127:
            return np.char.decode(encoded, "utf-8")
        return encoded.astype(np.str_)  # of ASCII alone, and far faster


class HexText(TextColumn):
    """Tokens of 32 hexadecimal digits as 16 bytes; the empty string as 16 zeros."""

    def __init__(self, tokens: NDArray[np.uint8]) -> None:  # (n, 16)
        self._tokens = tokens

    @staticmethod
    def pack(tokens: Sequence[str]) -> NDArray[np.uint8] | None:  # (n, 16)
        """The bytes of the tokens; None if one of them is of another form."""
        lengths = set(map(len, tokens))
        if not lengths <= {0, len(EMPTY_TOKEN)}:
            return None
        filled = [token or EMPTY_TOKEN for token in tokens] if 0 in lengths else tokens
        digits = "".join(filled)
        try:
            packed = bytes.fromhex(digits)
        except ValueError:
            return None
        if packed.hex() != digits:  # capital letters, or blanks
            return None
        rows = np.frombuffer(packed, dtype=np.uint8).reshape(-1, _TOKEN_BYTES)
        empty = tokens.count("") if 0 in lengths else 0
        return rows if np.count_nonzero(HexText(rows).is_empty()) == empty else None

    def __len__(self) -> int:
        return len(self._tokens)

    def arrays(self) -> Arrays:
        """The arrays it consists of, by name."""
        return {"hex": self._tokens}

    def chosen(self, key: Key) -> HexText:
        """A column of some of the rows."""
        return HexText(self._tokens[key])

    def halves(self) -> NDArray[np.uint64]:  # (n, 2)
        """The tokens as pairs of numbers, to be sorted and searched; the empty one is (0, 0)."""
        return np.ascontiguousarray(self._tokens).view(np.uint64)

    def is_empty(self) -> NDArray[np.bool_]:  # (n,)
        """Where the empty string is."""
        halves = self.halves()
        return (halves[:, 0] | halves[:, 1]) == 0

    def _select(self, key: Key) -> NDArray[np.str_]:
        chosen = HexText(self._tokens[key])
        digits = chosen._tokens.tobytes().hex().encode()
        strings = np.frombuffer(digits, dtype=f"S{len(EMPTY_TOKEN)}").astype(np.str_)
        strings[chosen.is_empty()] = ""
        return strings


class CodedText(TextColumn):
    """Few different strings, each row the number of one of them."""

    def __init__(self, codes: NDArray[Any], names: PlainText) -> None:  # codes (n,)
        self.codes = codes
        self._names = names

    @classmethod
    def of(cls, codes: NDArray[Any], names: Sequence[str]) -> CodedText:
        """Takes the smallest type for the codes that holds them all."""
        return cls(codes.astype(np.min_scalar_type(max(len(names) - 1, 0))), PlainText.of(names))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def names(self) -> NDArray[np.str_]:
        """The different strings, which the codes are rows of."""
        return np.asarray(self._names)

    def arrays(self) -> Arrays:
        """The arrays it consists of, by name."""
        return {"codes": self.codes, "names": self._names.arrays()["text"]}

    def chosen(self, key: Key) -> CodedText:
        """A column of some of the rows, with the same names."""
        return CodedText(self.codes[key], self._names)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, str):
            return (self.names == other)[self.codes]
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def _select(self, key: Key) -> NDArray[np.str_]:
        return self.names[self.codes[key]]


class PathText(TextColumn):
    """File names, whose beginnings repeat: up to the last "__", and the rest."""

    def __init__(self, heads: CodedText, tails: PlainText) -> None:
        self._heads = heads
        self._tails = tails

    def __len__(self) -> int:
        return len(self._heads)

    def arrays(self) -> Arrays:
        """The arrays it consists of, by name."""
        return {**self._heads.arrays(), **self._tails.arrays()}

    def chosen(self, key: Key) -> PathText:
        """A column of some of the rows."""
        return PathText(self._heads.chosen(key), self._tails.chosen(key))

    def _select(self, key: Key) -> NDArray[np.str_]:
        return np.char.add(self._heads[key], self._tails[key])


def text_column(arrays: Arrays) -> TextColumn:
    """The column that consists of these arrays: the inverse of ``TextColumn.arrays``."""
    if "hex" in arrays:
        return HexText(arrays["hex"])
    if "codes" not in arrays:
        return PlainText(arrays["text"])
    coded = CodedText(arrays["codes"], PlainText(arrays["names"]))
    return PathText(coded, PlainText(arrays["text"])) if "text" in arrays else coded
