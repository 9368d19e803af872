"""Reading of a results file as columns, with errors that name the fault.

The fast reader (msgspec) accepts only valid files. A file that it refuses is read again by the
standard library, which names the fault or accepts the file. Without msgspec the standard library
reads every file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.results.box_entries import columns_of_results
from bevstack.file_bytes import read_bytes
from bevstack.json_files import parse_json, shorten

_FORM = "an object with 'meta' and 'results'"


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
    remedy = "make it with `bevstack predict`"
    data = read_bytes(path, "results file", remedy=remedy, max_bytes=None)
    return _read_fast(data) or _read_exact(data, path, strict=strict)


def _read_fast(data: bytes) -> ReadResults | None:
    """Read with msgspec; None if it is not installed or refuses the file."""
    try:
        from bevstack.evaluation.results.results_msgspec import read_fast
    except ModuleNotFoundError:  # msgspec is optional: the standard library does the same, slower
        return None
    content = read_fast(data)
    return None if content is None else ReadResults(*content)


def _read_exact(data: bytes, path: Path, *, strict: bool) -> ReadResults:
    """Read with the standard library, which accepts NaN and infinity and locates a fault."""
    content = parse_json(
        data, "results file", place=f" in {path}", allow_nan=True, unique_keys=False
    )
    meta, results = results_object(content, path)
    return ReadResults(meta, columns_of_results(results, strict=strict))


def results_object(content: Any, path: Path) -> tuple[dict[str, object], dict[str, Any]]:
    """Return the fields "meta" and "results" of a parsed file.

    Raises:
        ValueError: the file is something else; names what it is.
    """
    results = _results_of(content, path)
    meta = content["meta"]
    if not isinstance(meta, dict) and meta is not None:
        raise ValueError(f"meta of {path} must be an object or null; got {shorten(meta)}")
    return meta or {}, results


def _results_of(content: Any, path: Path) -> dict[str, Any]:
    """Return the field "results"; see ``results_object``."""
    if not isinstance(content, dict):
        kind = f"a list of {len(content)}" if isinstance(content, list) else shorten(content)
        raise ValueError(f"results file must be {_FORM}; got {kind} in {path}")
    for field in ("meta", "results"):
        if field not in content:
            got = f"the fields {shorten(sorted(content))}" if content else "an empty object"
            raise ValueError(
                f"results file must be {_FORM}; got no {field!r} but {got} in {path}"
                f"{_name_other_kind(content)}"
            )
    results = content["results"]
    if not isinstance(results, dict):
        kind = f"a list of {len(results)}" if isinstance(results, list) else shorten(results)
        raise ValueError(
            f"results of {path} must be an object with the list of boxes of each sample token; "
            f"got {kind}: group the boxes by their sample_token"
        )
    return results


def _name_other_kind(content: dict[str, Any]) -> str:
    """Return the remedy if the file is known to be of another kind."""
    if str(content.get("format", "")).startswith("bevstack-detections"):
        return ": these are the boxes of one frame of `bevstack predict --rig`, without samples"
    if str(content.get("format", "")).startswith("bevstack-frames-detections"):
        return ": these are the boxes of a drive of `bevstack predict --rig --frames`"
    if "nd_score" in content or "mean_dist_aps" in content:
        return ": these are the metrics of an evaluation; give the results that it scored"
    return ""
