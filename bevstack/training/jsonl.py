"""Logs of a run: files of one JSON object a line, exact over restarts.

A number that is not finite is written as null, as JSON has no other way, and read as NaN.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


def open_log(path: Path, steps_done: int) -> None:
    """Keeps the lines of the first ``steps_done`` steps of a log and drops later ones.

    A run killed after its last checkpoint has logged steps that will be done again.
    """
    lines = _read_lines(path) if steps_done else []
    kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= steps_done]
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


def append_log(path: Path, entry: Mapping[str, object]) -> None:
    """Adds one line."""
    plain = {key: None if _is_no_number(value) else value for key, value in entry.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def read_log(path: Path) -> list[dict[str, float]]:
    """Lines of a log of numbers; one cut short by a kill is left out."""
    return [
        {key: math.nan if value is None else value for key, value in line.items()}
        for line in _read_lines(path)
    ]


def _read_lines(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
