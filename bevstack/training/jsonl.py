"""Log files with one JSON object per line, without repeated steps after a restart.

JSON has no numbers that are not finite: they are written as null, and null is read as NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from bevstack.files import write_text_atomically


def open_jsonl(path: Path, steps_done: int) -> None:
    """Create a log, or keep only the lines of the first ``steps_done`` steps of an existing one.

    A run that was killed after its last checkpoint has logged steps that will be repeated.

    Raises:
        OSError: the file cannot be written.
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
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, float]]:
    """Read the lines of a log of numbers; a missing file gives none.

    A line that a kill cut short is left out.
    """
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


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
