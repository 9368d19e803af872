"""Reading a results file as columns: quickly where it is as it should be, else with explanations.

What the fast reader refuses the standard library reads again, to say what is wrong, or that
nothing is; it also reads all where msgspec is not installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.results.box_entries import columns_of_results


class ReadResults(NamedTuple):
    """The content of a results file."""

    meta: dict[str, object]
    boxes: BoxColumns


def read_results(path: Path | str, *, strict: bool = False) -> ReadResults:
    """A results file as columns, in file order.

    Args:
        path: the file.
        strict: take what the devkit takes: a score may be absent, which counts as -1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON (with the byte), not of the format, or see ``columns_of_results``.
    """
    path = Path(path)
    try:
        return _fast(path) or _exact(path.read_bytes(), path, strict=strict)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"results file must exist; got no file {path}: make it with `bevstack predict`"
        ) from None


def _fast(path: Path) -> ReadResults | None:
    try:
        from bevstack.evaluation.results.results_msgspec import read_fast
    except ModuleNotFoundError:  # the same without it, some times slower
        return None
    found = read_fast(path)
    return None if found is None else ReadResults(*found)


def _exact(data: bytes, path: Path, *, strict: bool) -> ReadResults:
    """By the standard library, which knows NaN and infinity, and tells the place of a fault."""
    try:
        content = json.loads(data)
    except json.JSONDecodeError as error:
        byte = len(error.doc[: error.pos].encode())
        raise ValueError(
            f"results file must be JSON; got {error.msg} at byte {byte} of {len(data)} in {path}: "
            "the file is cut off or damaged"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"results file must be UTF-8 text; got {error.reason} at byte {error.start} in {path}"
        ) from None
    for field in ("meta", "results"):
        if not isinstance(content, dict) or not isinstance(content.get(field), dict):
            raise ValueError(
                f"results file must be an object with the objects 'meta' and 'results'; got no "
                f"{field!r} in {path}"
            )
    return ReadResults(content["meta"], columns_of_results(content["results"], strict=strict))
