"""Reading of a results file as columns, with errors that name the fault.

The fast reader (msgspec) accepts only valid files. A file that it refuses is read again by the
standard library, which names the fault or accepts the file. Without msgspec the standard library
reads every file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.results.box_entries import columns_of_results


class ReadResults(NamedTuple):
    """Content of a results file."""

    meta: dict[str, object]
    boxes: BoxColumns


def read_results(path: Path | str, *, strict: bool = False) -> ReadResults:
    """Read a results file as columns, in file order.

    Args:
        path: the file.
        strict: accept what the devkit accepts: a score may be absent, which counts as -1.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON (names the byte) or not of the format; see also
            ``columns_of_results``.
    """
    path = Path(path)
    try:
        return _read_fast(path) or _read_exact(path.read_bytes(), path, strict=strict)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"results file must exist; got no file {path}: make it with `bevstack predict`"
        ) from None


def _read_fast(path: Path) -> ReadResults | None:
    """Read with msgspec; None if it is not installed or refuses the file."""
    try:
        from bevstack.evaluation.results.results_msgspec import read_fast
    except ModuleNotFoundError:  # msgspec is optional: the standard library does the same, slower
        return None
    content = read_fast(path)
    return None if content is None else ReadResults(*content)


def _read_exact(data: bytes, path: Path, *, strict: bool) -> ReadResults:
    """Read with the standard library, which accepts NaN and infinity and locates a fault."""
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
