"""The interface of a reader under test, and small parts of its surroundings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import Draw
from tests.fuzz.schema import Kind

Mutate = Callable[[Any, Draw], Any]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader of files under test."""

    name: str
    # Makes the surroundings in a folder and returns the valid files, as JSON or as bytes.
    start: Callable[[Path], Sequence[Any]]
    mutate: Mutate
    read: Callable[[Path, Any], object]  # writes a mutated file into the folder and reads it
    kind: Kind | None = None  # of accepted documents


def write_file(path: Path, content: Any) -> Path:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    return path


def start_with(*values: Any) -> Callable[[Path], Sequence[Any]]:
    return lambda folder: values
