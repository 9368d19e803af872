"""Strict reading of JSON files and of the values in them; every fault is one sentence.

JSON of Python's library takes NaN, infinity and repeated keys, and ends in a traceback at deep
nesting. Here a file has to be UTF-8 text of a bounded size, with finite numbers and distinct keys.
The functions ``expect_*`` return a value of one kind or name the place of another kind.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.file_bytes import MAX_BYTES, read_bytes

MAX_TEXT = 1024  # characters of a name or path; many file systems take 255 of a name
_MAX_DIGITS = 19  # of a whole number of 64 bits
_DAMAGED = "the file is cut off or damaged"

_MAX_SHOWN = 500  # characters of a shortened value: lists of lists of texts are long even so
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxtuple = 3, 8, 8, 8
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 80, 80, 40


def read_json(
    path: Path | str,
    subject: str,
    *,
    remedy: str = "check the path",
    max_bytes: int = MAX_BYTES,
    allow_nan: bool = False,
) -> Any:
    """Read a JSON file; see ``parse_json``.

    Args:
        path: the file.
        subject: the kind of file, such as "rig file".
        remedy: the last part of the message about a missing file.
        max_bytes: the greatest size of the file; its values take up to 30 times as much memory.
        allow_nan: accept NaN, infinity and numbers of any size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a regular file, too large, or refused by ``parse_json``.
        OSError: the file cannot be read; the error names it.
    """
    data = read_bytes(path, subject, remedy=remedy, max_bytes=max_bytes)
    return parse_json(data, subject, place=f" in {path}", allow_nan=allow_nan)


def parse_json(
    data: bytes | str,
    subject: str,
    *,
    place: str = "",
    allow_nan: bool = False,
    unique_keys: bool = True,
) -> Any:
    """Return the value of a JSON text.

    Args:
        data: the text, or its bytes in UTF-8 with or without a byte order mark.
        subject: what the text is, for messages: "rig file".
        place: where it is, for messages: " in rig.json".
        allow_nan: accept NaN, infinity and numbers of any size.
        unique_keys: refuse an object that has a key twice; otherwise the last value counts.

    Raises:
        ValueError: the text is not UTF-8 or not JSON, holds NaN, infinity, a whole number of over
            19 digits or a repeated key, or is nested too deeply.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{subject} must be UTF-8 text; got {error.reason} at byte {error.start}{place}"
        ) from None
    decode = partial(
        json.loads,
        parse_constant=None if allow_nan else _refuse_constant,
        parse_float=None if allow_nan else _finite_float,
        parse_int=None if allow_nan else _bounded_int,
        object_pairs_hook=_distinct if unique_keys else None,
    )
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        byte, size = (len(part.encode(errors="replace")) for part in (text[: error.pos], text))
        reason = f"{error.msg} at byte {byte} of {size}{place}: {_DAMAGED}"
    except RecursionError:
        reason = f"too many nested lists or objects{place}"
    except _RefusedValueError as error:
        reason = f"{error}{place}"
    except ValueError:  # Python's limit of the digits of an integer
        reason = f"a whole number of too many digits{place}"
    raise ValueError(f"{subject} must be JSON; got {reason}")


def shorten(value: object) -> str:
    """Return a value for a message: on one line, and shortened if it is long or deep."""
    try:
        text = " ".join(_SHORT.repr(value).split())
    except (ValueError, RecursionError):  # a number of too many digits
        return f"a very long {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def expect_object(where: str, value: object) -> dict[str, Any]:
    """Return a JSON object, or raise an error that names the place."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object; got {shorten(value)}")
    return value


def expect_list(where: str, value: object) -> list[Any]:
    """Return a JSON list, or raise an error that names the place."""
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list; got {shorten(value)}")
    return value


def expect_field(where: str, values: Mapping[str, Any], name: str) -> Any:
    """Return a field of an object, or raise an error that names the missing field."""
    if name not in values:
        raise ValueError(f"{where} must have the field {name!r}; got {shorten(sorted(values))}")
    return values[name]


def expect_flag(where: str, value: object) -> bool:
    """Return a boolean; a text such as "false" or a number is an error."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true or false; got {shorten(value)}")
    return value


def expect_text(where: str, value: object) -> str:
    """Return a text that can be a name: not empty, printable, of bounded length."""
    if not isinstance(value, str):
        raise ValueError(f"{where} must be a text; got {shorten(value)}")
    if not value or len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(
            f"{where} must be 1 to {MAX_TEXT} printable characters; got {shorten(value)}"
        )
    return value


def expect_integer(
    where: str, value: object, *, low: int = -(1 << 63), high: int = (1 << 63) - 1
) -> int:
    """Return a whole number from ``low`` to ``high``; a boolean, float or text is an error."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where} must be a whole number; got {shorten(value)}")
    if not low <= value <= high:
        raise ValueError(f"{where} must be from {low} to {high}; got {shorten(value)}")
    return value


def expect_number(where: str, value: object) -> float:
    """Return a finite number; a boolean or text is an error."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where} must be a number; got {shorten(value)}")
    if not _is_finite(value):
        raise ValueError(f"{where} must be finite; got {shorten(value)}")
    return float(value)


def expect_numbers(where: str, value: object, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return nested lists of finite numbers as an array of the given shape."""
    if not shape:
        return np.array(expect_number(where, value))
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where} must be {_count(shape)}; got {shorten(value)}")
    if len(value) != shape[0]:
        raise ValueError(f"{where} must be {_count(shape)}; got {len(value)}: {shorten(value)}")
    rows = [expect_numbers(f"{where}[{i}]", row, shape[1:]) for i, row in enumerate(value)]
    return np.array(rows, dtype=np.float64).reshape(shape)


def _count(shape: tuple[int, ...]) -> str:
    """Return "3 numbers" or "3 lists of 4 numbers"."""
    return f"{shape[0]} lists of {_count(shape[1:])}" if len(shape) > 1 else f"{shape[0]} numbers"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


class _RefusedValueError(ValueError):
    """A value that JSON or this module does not permit."""


def _refuse_constant(name: str) -> float:
    raise _RefusedValueError(f"{name}, which is not finite,")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedValueError(f"the number {text[:40]}, which is too large,")
    return value


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise _RefusedValueError(f"a whole number of {len(text.lstrip('-'))} digits")
    return int(text)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, unless it has a key twice."""
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _RefusedValueError(f"the key {shorten(key)} twice in one object")
        seen.add(key)
    raise AssertionError("a key must occur twice")
