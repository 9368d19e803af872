"""Results file of bevstack's own format: boxes as columns, so that scoring parses no JSON.

It is a safetensors file (no pickle), about five times smaller than the JSON file. Reading it takes
a tenth of a second at the size of the validation split.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.results.box_entries import parse_entries
from bevstack.evaluation.results.results_json import ReadResults
from bevstack.files import naming, write_atomically
from bevstack.json_files import expect_object, parse_json
from bevstack.safetensors_metadata import sort_safetensors_metadata
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES

SUFFIX = ".safetensors"
FORMAT = "bevstack results 1"


def write_columns(path: Path | str, boxes: BoxColumns, meta: Mapping[str, object]) -> None:
    """Write results as columns; an older file is replaced only when the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
    """
    arrays = {field.name: getattr(boxes, field.name) for field in fields(boxes)[1:]}
    tokens = "\n".join(boxes.sample_tokens.tolist()).encode()
    arrays["sample_tokens"] = np.frombuffer(tokens, dtype=np.uint8)
    metadata = {"format": FORMAT, "meta": json.dumps(dict(meta))}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, sort_safetensors_metadata(save(contiguous, metadata)))


def read_columns(path: Path | str) -> ReadResults:
    """Read a file that ``write_columns`` wrote.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or of another kind.
    """
    path = Path(path)
    try:
        with naming(path):
            data = path.read_bytes()
        arrays = load(data)
        metadata = _metadata(data)
        if metadata.get("format") != FORMAT:
            raise ValueError(f"format {metadata.get('format')!r}")
        text = arrays.pop("sample_tokens").tobytes().decode()
        tokens = np.array(text.split("\n") if text else [], dtype=np.str_)
        boxes = BoxColumns(sample_tokens=tokens, **arrays)
        meta = parse_json(metadata["meta"], "meta", allow_nan=True, unique_keys=False)
        expect_object("meta", meta)
        _check_types(boxes)
        _check_rows(boxes)
        return ReadResults(meta, boxes)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"results file must exist; got no file {path}: make it with `bevstack predict`"
        ) from None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"results file must hold columns as bevstack writes them; got {str(error)[:300]} in "
            f"{path}: the file is damaged or of another kind"
        ) from None


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata from the header of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] | None = parse_json(data[8 : 8 + size], "header").get("__metadata__")
    return metadata or {}


def _check_types(boxes: BoxColumns) -> None:
    """Check that every column has the type that it is written with."""
    expected = parse_entries("", [])._asdict() | dict.fromkeys(
        ("sample", "named_sample"), np.empty(0, dtype=np.int32)
    )
    for field in fields(boxes)[1:]:
        dtype = getattr(boxes, field.name).dtype
        if dtype != expected[field.name].dtype:
            raise ValueError(f"{field.name} of type {dtype}")


def _check_rows(boxes: BoxColumns) -> None:
    """Check that every index lies in its range: the columns of a file may hold any number."""
    for name, lowest, count in (
        ("sample", 0, len(boxes.sample_tokens)),
        ("named_sample", -1, len(boxes.sample_tokens)),
        ("label", 0, len(DETECTION_CLASSES)),
        ("attribute", -1, len(ATTRIBUTES)),
    ):
        column = getattr(boxes, name)
        if len(column) and not (lowest <= column.min() and column.max() < count):
            raise ValueError(f"{name} outside {lowest}..{count - 1}")
