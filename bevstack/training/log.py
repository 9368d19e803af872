"""The training log: one JSON object a line, exact over restarts."""

from __future__ import annotations

import json
import os
from pathlib import Path


def open_log(path: Path, steps_done: int) -> None:
    """Keeps the lines of the first ``steps_done`` steps of a log and drops later ones.

    A run killed after its last checkpoint has logged steps that will be done again.
    """
    lines = read_log(path) if steps_done else []
    kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= steps_done]
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


def append_log(path: Path, entry: dict[str, float]) -> None:
    """Adds one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def read_log(path: Path) -> list[dict[str, float]]:
    """Lines of a log; one cut short by a kill is left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries
