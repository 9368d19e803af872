"""Reading of a long JSON list item by item: label files of a gigabyte need the memory of one item.

A value in Python takes up to 30 times its bytes, so a file of 1.3 GB (70,000 images with their
polygons) would need more memory than most machines have.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bevstack.files import naming
from bevstack.json_files import parse_json, shorten

MAX_ITEM_BYTES = 1 << 24
_CHUNK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def stream_list(
    path: Path | str,
    subject: str,
    key: str,
    *,
    may_be_bare: bool = False,
    max_item_bytes: int = MAX_ITEM_BYTES,
) -> Iterator[Any]:
    """Yield the items of a list that is the field ``key`` of the file's object.

    Every item is checked as ``parse_json`` does. Other fields of the object are read and left out.

    Args:
        path: the file.
        subject: what the file is, for messages.
        key: the field with the list.
        may_be_bare: accept a file that is the list itself.
        max_item_bytes: the greatest length of one item or of another field.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON, has no such list, or an item is longer.
    """
    try:
        state = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{subject} must exist; got no file {path}: check the path"
        ) from None
    if not stat.S_ISREG(state.st_mode):
        raise ValueError(f"{subject} must be a regular file; got {path}")
    with naming(path), open(path, "rb") as file:
        yield from _Scanner(file, subject, path=str(path), limit=max_item_bytes).items(
            key, may_be_bare
        )


class _Scanner:
    """A window on the text of a file, which moves forward value by value."""

    def __init__(self, file: Any, subject: str, *, path: str, limit: int) -> None:
        self._file, self._subject, self._path, self._limit = file, subject, path, limit
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._ended = "", 0, False

    def items(self, key: str, may_be_bare: bool) -> Iterator[Any]:
        """Yield the items of the list, and check that nothing follows the document."""
        opening = self._next()
        if opening == "[" and may_be_bare:
            yield from self._list()
        elif opening == "{":
            yield from self._object(key)
        else:
            either = "a list, or " if may_be_bare else ""
            self._refuse(f"must hold {either}an object with the field {key!r}")
        if self._peek():
            self._refuse("must be JSON and nothing else")

    def _object(self, key: str) -> Iterator[Any]:
        found, names = False, set()
        if self._peek() == "}":
            self._next()
        else:
            while True:
                name = self._value()
                if not isinstance(name, str) or name in names or self._next() != ":":
                    self._refuse("must be JSON with distinct keys")
                names.add(name)
                if name == key:
                    found = True
                    if self._next() != "[":
                        self._refuse(f"must have a list in the field {key!r}")
                    yield from self._list()
                else:
                    self._value()
                if self._closes("}"):
                    break
        if not found:
            self._refuse(f"must have the field {key!r}")

    def _list(self) -> Iterator[Any]:
        if self._peek() == "]":
            self._next()
            return
        while True:
            yield self._value()
            if self._closes("]"):
                return

    def _closes(self, closing: str) -> bool:
        mark = self._next()
        if mark not in (",", closing):
            self._refuse(f"must be JSON with , or {closing} after a value")
        return mark == closing

    def _value(self) -> Any:
        """Return the next value, which is parsed twice: to find its end, and with all checks."""
        self._peek()
        while True:
            try:
                _, end = _PLAIN.raw_decode(self._text, self._at)
            except (json.JSONDecodeError, RecursionError):
                end = len(self._text)
            # A number may go on behind the window, a text that is cut off is refused above.
            if end < len(self._text) or self._ended:
                break
            if len(self._text) - self._at > self._limit:
                self._refuse(f"must have values of at most {self._limit} bytes")
            self._read(max(_CHUNK_BYTES, len(self._text) - self._at))
        text = self._text[self._at : end]
        self._at = end
        return parse_json(text, self._subject, place=f" in {self._path}")

    def _next(self) -> str:
        mark = self._peek()
        self._at += len(mark)
        return mark

    def _peek(self) -> str:
        """Move to the next character that is no space, and return it; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read(_CHUNK_BYTES)

    def _read(self, count: int) -> None:
        data = self._file.read(count)
        self._ended = not data
        try:
            self._text = self._text[self._at :] + self._decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self._subject} must be UTF-8 text; got {error.reason} in {self._path}"
            ) from None
        self._at = 0

    def _refuse(self, rule: str) -> None:
        found = shorten(self._text[max(self._at - 1, 0) : self._at + 40]) or "the end"
        raise ValueError(f"{self._subject} {rule}; got {found} in {self._path}")
