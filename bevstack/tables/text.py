"""Compact columns of strings: 16 bytes for a token, one for a category.

A numpy array of strings takes four bytes for each character of its longest string. That is 128
bytes for a token, 360 for a file name, and 1.4 GB for all sensor readings of nuScenes trainval. The
columns here hold plain bytes and small integers, which can be mapped into memory from a file. They
are indexed like a numpy array of strings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = Any  # any numpy index of a vector: a number, a slice, an array of rows, a mask
Arrays = Mapping[str, NDArray[Any]]

_BLOCK = 65_536  # rows decoded at once while iterating
_TOKEN_BYTES = 16
EMPTY_TOKEN = "0" * (2 * _TOKEN_BYTES)  # the hexadecimal digits that stand for the empty token


class TextColumn(ABC):
    """A vector of strings with the indexing and comparison of a numpy array of strings."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return the arrays that store the column, by name."""

    @abstractmethod
    def select(self, key: Key) -> TextColumn:
        """Return a column of the selected rows."""

    @abstractmethod
    def _decode(self, key: Key) -> NDArray[np.str_]:
        """Decode the strings at rows, a slice or a mask."""

    @property
    def shape(self) -> tuple[int]:
        """Return (rows,)."""
        return (len(self),)

    def __getitem__(self, key: Key) -> Any:
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(
                    f"row must be within the {len(self)} rows of the column; got {key}"
                )
            return self._decode(np.array([key]))[0]
        return self._decode(key)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            yield from self._decode(slice(first, first + _BLOCK)).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a text column must be copied to become an array; got copy=False")
        strings = self._decode(slice(None))
        return strings if dtype is None else strings.astype(dtype)

    def __eq__(self, other: object) -> Any:
        return np.asarray(self) == np.asarray(other)

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    def tolist(self) -> list[str]:
        """Return all strings."""
        return list(self)


class PlainText(TextColumn):
    """Strings in UTF-8, padded with zero bytes to the length of the longest."""

    def __init__(self, text: NDArray[np.uint8]) -> None:  # (n, bytes)
        self._text = text

    @classmethod
    def from_strings(cls, strings: Sequence[str]) -> PlainText:
        """Pack strings; zero characters at their end are lost, like in a numpy array of strings."""
        try:
            encoded = np.array(strings, dtype=np.bytes_)
        except UnicodeEncodeError:
            encoded = np.array([string.encode() for string in strings], dtype=np.bytes_)
        width = encoded.dtype.itemsize
        return cls(np.frombuffer(encoded.tobytes(), dtype=np.uint8).reshape(len(strings), width))

    def __len__(self) -> int:
        return len(self._text)

    def arrays(self) -> Arrays:
        """Return the arrays that store the column, by name."""
        return {"text": self._text}

    def select(self, key: Key) -> PlainText:
        """Return a column of the selected rows."""
        return PlainText(self._text[key])

    def _decode(self, key: Key) -> NDArray[np.str_]:
        selected = np.ascontiguousarray(self._text[key])
        encoded = selected.view(f"S{selected.shape[1]}")[:, 0]
        if selected.size and selected.max() > 127:
            return np.char.decode(encoded, "utf-8")
        return encoded.astype(np.str_)  # correct for ASCII alone, and far faster


class HexText(TextColumn):
    """Tokens of 32 hexadecimal digits as 16 bytes; the empty string as 16 zeros."""

    def __init__(self, tokens: NDArray[np.uint8]) -> None:  # (n, 16)
        self._tokens = tokens

    @staticmethod
    def pack(tokens: Sequence[str]) -> NDArray[np.uint8] | None:  # (n, 16)
        """Return the bytes of the tokens; None if one is neither empty nor 32 lower-case digits."""
        lengths = set(map(len, tokens))
        if not lengths <= {0, len(EMPTY_TOKEN)}:
            return None
        filled = [token or EMPTY_TOKEN for token in tokens] if 0 in lengths else tokens
        digits = "".join(filled)
        try:
            packed = bytes.fromhex(digits)
        except ValueError:
            return None
        if packed.hex() != digits:  # upper-case letters, or blanks
            return None
        rows = np.frombuffer(packed, dtype=np.uint8).reshape(-1, _TOKEN_BYTES)
        empty = tokens.count("") if 0 in lengths else 0
        return rows if np.count_nonzero(HexText(rows).is_empty()) == empty else None

    def __len__(self) -> int:
        return len(self._tokens)

    def arrays(self) -> Arrays:
        """Return the arrays that store the column, by name."""
        return {"hex": self._tokens}

    def select(self, key: Key) -> HexText:
        """Return a column of the selected rows."""
        return HexText(self._tokens[key])

    def halves(self) -> NDArray[np.uint64]:  # (n, 2)
        """Return the tokens as pairs of integers that can be sorted; the empty one is (0, 0)."""
        return np.ascontiguousarray(self._tokens).view(np.uint64)

    def is_empty(self) -> NDArray[np.bool_]:  # (n,)
        """Return True for rows that hold the empty string."""
        halves = self.halves()
        empty: NDArray[np.bool_] = (halves[:, 0] | halves[:, 1]) == 0
        return empty

    def _decode(self, key: Key) -> NDArray[np.str_]:
        selected = HexText(self._tokens[key])
        digits = selected._tokens.tobytes().hex().encode()
        strings = np.frombuffer(digits, dtype=f"S{len(EMPTY_TOKEN)}").astype(np.str_)
        strings[selected.is_empty()] = ""
        return strings


class CodedText(TextColumn):
    """Strings with few distinct values: each row stores the index of its string."""

    def __init__(self, codes: NDArray[Any], names: PlainText) -> None:  # codes (n,)
        self.codes = codes
        self._names = names

    @classmethod
    def from_codes(cls, codes: NDArray[Any], names: Sequence[str]) -> CodedText:
        """Store the codes in the smallest integer type that holds them all.

        Args:
            codes: index into ``names`` for each row.
            names: the distinct strings.
        """
        code_type = np.min_scalar_type(max(len(names) - 1, 0))
        return cls(codes.astype(code_type), PlainText.from_strings(names))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def names(self) -> NDArray[np.str_]:
        """Return the distinct strings, which the codes index."""
        return np.asarray(self._names)

    def arrays(self) -> Arrays:
        """Return the arrays that store the column, by name."""
        return {"codes": self.codes, "names": self._names.arrays()["text"]}

    def select(self, key: Key) -> CodedText:
        """Return a column of the selected rows, with the same distinct strings."""
        return CodedText(self.codes[key], self._names)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, str):
            return (self.names == other)[self.codes]
        return super().__eq__(other)

    def _decode(self, key: Key) -> NDArray[np.str_]:
        strings: NDArray[np.str_] = self.names[self.codes[key]]
        return strings


class PathText(TextColumn):
    """File names split at the last "__": heads, of which few are distinct, and tails."""

    def __init__(self, heads: CodedText, tails: PlainText) -> None:
        self._heads = heads
        self._tails = tails

    def __len__(self) -> int:
        return len(self._heads)

    def arrays(self) -> Arrays:
        """Return the arrays that store the column, by name."""
        return {**self._heads.arrays(), **self._tails.arrays()}

    def select(self, key: Key) -> PathText:
        """Return a column of the selected rows."""
        return PathText(self._heads.select(key), self._tails.select(key))

    def _decode(self, key: Key) -> NDArray[np.str_]:
        return np.char.add(self._heads[key], self._tails[key])


def text_column(arrays: Arrays) -> TextColumn:
    """Restore a column from its arrays: the inverse of ``TextColumn.arrays``."""
    if "hex" in arrays:
        return HexText(arrays["hex"])
    if "codes" not in arrays:
        return PlainText(arrays["text"])
    coded = CodedText(arrays["codes"], PlainText(arrays["names"]))
    return PathText(coded, PlainText(arrays["text"])) if "text" in arrays else coded
