"""Calibrations beside a weights file: ``NAME.calibration.json`` for ``NAME.safetensors``.

The file is one JSON object::

    {"format": "bevstack-calibration-1", "weights_sha256": "...", "boxes": {...}, "sectors": {...}}

Every key besides the first two is a section: what one part of the stack has fitted on held-out
scenes with these weights. A section may be absent. New weights have another digest, so that an old
calibration is refused and not used in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevstack.files import naming, write_text_atomically
from bevstack.json_files import expect_field, expect_object, expect_text, read_json, shorten

CALIBRATION_FORMAT = "bevstack-calibration-1"
CALIBRATION_SUFFIX = ".calibration.json"
SECTIONS = ("boxes", "sectors")
_HEAD = ("format", "weights_sha256")
_REMEDY = "fit it again, as docs/uncertainty.md describes, or remove the file"
_CHUNK_BYTES = 1 << 20


def calibration_path(weights: Path) -> Path:
    """Return the file of calibrations that belongs to a weights file, whether it exists or not."""
    return weights.with_name(weights.name.removesuffix(weights.suffix) + CALIBRATION_SUFFIX)


def weights_digest(weights: Path) -> str:
    """Return the SHA-256 of a weights file.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with naming(weights), weights.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_calibration(weights: Path, section: str) -> dict[str, Any] | None:
    """Return a section of the calibrations beside a weights file; None if there is none.

    Raises:
        ValueError: the file is malformed, or belongs to other weights.
    """
    path = calibration_path(weights)
    if not path.is_file():
        return None
    content = _read(path)
    if section not in content:
        return None
    digest = weights_digest(weights)
    if content["weights_sha256"] != digest:
        raise ValueError(
            f"weights_sha256 of {path} must be that of {weights.name}, {digest}; got "
            f"{shorten(content['weights_sha256'])}, of other weights: {_REMEDY}"
        )
    return expect_object(f"{section} of {path}", content[section])


def write_calibration(
    weights: Path, section: str, values: Mapping[str, Any], *, out: Path | None = None
) -> Path:
    """Write one section of a file of calibrations, and return the file's path.

    The remaining sections stay if they were fitted with the same weights; those of other weights
    are dropped.

    Args:
        weights: the weights file of the calibration.
        section: one of ``SECTIONS``.
        values: the section's content: finite numbers, texts, lists and objects.
        out: the file to write; None: that beside the weights.

    Raises:
        OSError: the file cannot be written.
        ValueError: the section is unknown, a value is not finite, or an existing file is malformed.
    """
    if section not in SECTIONS:
        raise ValueError(f"section must be one of {', '.join(SECTIONS)}; got {section!r}")
    path = calibration_path(weights) if out is None else out
    digest = weights_digest(weights)
    content: dict[str, Any] = {"format": CALIBRATION_FORMAT, "weights_sha256": digest}
    if path.is_file():
        old = _read(path)
        if old["weights_sha256"] == digest:
            content = old
    content[section] = dict(values)
    try:
        text = json.dumps(content, indent=1, allow_nan=False)
    except ValueError:
        raise ValueError(
            f"{section} of {path} must hold finite numbers; got an infinite or undefined one: fit "
            "it on more scenes"
        ) from None
    write_text_atomically(path, text + "\n")
    return path


def _read(path: Path) -> dict[str, Any]:
    """Return the checked head and the sections of a file."""
    content = expect_object(str(path), read_json(path, "file of calibrations", remedy=_REMEDY))
    file_format = expect_field(str(path), content, "format")
    if file_format != CALIBRATION_FORMAT:
        raise ValueError(
            f"format of {path} must be {CALIBRATION_FORMAT!r}; got {shorten(file_format)}: "
            f"{_REMEDY}"
        )
    expect_text(f"weights_sha256 of {path}", expect_field(str(path), content, "weights_sha256"))
    unknown = [name for name in content if name not in (*_HEAD, *SECTIONS)]
    if unknown:
        raise ValueError(
            f"{path} must hold the sections {', '.join(SECTIONS)}; got {shorten(unknown[0])}: "
            f"{_REMEDY}"
        )
    return content
