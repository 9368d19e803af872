"""Log files with one JSON object per line, without repeated steps after a restart.

JSON has no numbers that are not finite: they are written as null, and null is read as NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevstack.file_bytes import read_bytes
from bevstack.files import naming, write_text_atomically
from bevstack.json_files import expect_integer, expect_object, parse_json, shorten


def open_jsonl(path: Path, steps_done: int) -> None:
    """Create a log, or keep only the lines of the first ``steps_done`` steps of an existing one.

    A run that was killed after its last checkpoint has logged steps that will be repeated.

    Raises:
        OSError: the file cannot be written.
        ValueError: a line of the existing log is no JSON object with a whole number as "step".
    """
    lines = _read_lines(path) if steps_done else []
    kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= steps_done]
    write_text_atomically(path, "".join(kept))


def append_jsonl(path: Path, entry: Mapping[str, object]) -> None:
    """Append one line.

    Raises:
        OSError: the file cannot be written.
    """
    plain = {key: None if _is_not_finite(value) else value for key, value in entry.items()}
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, float]]:
    """Read the lines of a log of numbers; a missing file gives none.

    The last line is left out if a kill cut it short.

    Raises:
        ValueError: an earlier line is no JSON object, has no whole number as "step", or has a value
            that is neither a number nor null. Names the line.
    """
    return [
        {key: _number(path, number, key, value) for key, value in line.items()}
        for number, line in enumerate(_read_lines(path), 1)
    ]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines as objects with a whole number as "step"."""
    try:
        *lines, last = read_bytes(path, "log", max_bytes=None).split(b"\n")
    except FileNotFoundError:
        return []
    entries = []
    for number, line in enumerate([*lines, last] if last else lines, 1):
        where = f"line {number} of {path}"
        try:
            entry = expect_object(where, parse_json(line, where))
        except ValueError:
            if line is last:  # a complete line ends in a line break: this one is cut short
                break
            raise
        expect_integer(f"step in {where}", entry.get("step"))
        entries.append(entry)
    return entries


def _number(path: Path, number: int, key: str, value: object) -> float:
    """Return a number; null is NaN."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(
            f"{key[:60]} in line {number} of {path} must be a number or null; got {shorten(value)}"
        )
    return value


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
