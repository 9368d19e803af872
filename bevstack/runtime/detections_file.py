"""JSON files with the boxes of one frame, as ``bevstack predict --rig`` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bevstack.files import write_text_atomically
from bevstack.types import Boxes3D, Detections

DETECTIONS_FORMAT = "bevstack-detections-1"

# Numeric fields of a box and their shapes.
_NUMBERS: Mapping[str, tuple[int, ...]] = {
    "score": (),
    "center_m": (3,),
    "size_m": (3,),
    "yaw_rad": (),
    "velocity_mps": (2,),
}


def write_detections(
    path: Path,
    detections: Detections,  # in the ego frame
    class_names: Sequence[str],
    timestamp_us: int | None,
) -> None:
    """Write boxes in the ego frame; a failed write leaves no partial file.

    The file holds ``{"format", "frame", "timestamp_us", "detections": [{"class", "score",
    "center_m", "size_m" (length, width, height), "yaw_rad", "velocity_mps"}]}``.

    Raises:
        OSError: the file cannot be written.
    """
    boxes = detections.boxes
    entries = [
        {
            "class": class_names[int(detections.labels[i])],
            "score": float(detections.scores[i]),
            "center_m": boxes.center[i].tolist(),
            "size_m": boxes.size[i].tolist(),
            "yaw_rad": float(boxes.yaw[i]),
            "velocity_mps": boxes.velocity[i].tolist(),
        }
        for i in range(len(detections))
    ]
    content = {
        "format": DETECTIONS_FORMAT,
        "frame": "ego",
        "timestamp_us": timestamp_us,
        "detections": entries,
    }
    write_text_atomically(path, json.dumps(content, indent=1))


def read_detections(path: Path | str) -> tuple[Detections, tuple[str, ...]]:
    """Read boxes in the ego frame, best first, and the names of their classes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON or has another format, or a box lacks a field or has a
            wrong count of numbers in it. The message names the box and the field.
    """
    path = Path(path)
    entries = _entries(path)
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("class"), str):
            raise ValueError(
                f"box {number} of {path} must have a 'class' that is a string; got {entry!r}"
            )
    columns = {field: _column(path, entries, field) for field in _NUMBERS}
    names = tuple(sorted({entry["class"] for entry in entries}))
    labels = torch.tensor([names.index(entry["class"]) for entry in entries], dtype=torch.int64)
    boxes = Boxes3D(
        columns["center_m"], columns["size_m"], columns["yaw_rad"], columns["velocity_mps"]
    )
    order = torch.argsort(columns["score"], descending=True, stable=True)
    return Detections(boxes, columns["score"], labels)[order], names


def _entries(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"results file must exist; got no file {path}: make it with `bevstack predict --rig`"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"results file must be JSON; got {error} in {path}: the file is cut off or damaged"
        ) from None
    file_format = content.get("format") if isinstance(content, dict) else None
    if file_format != DETECTIONS_FORMAT:
        raise ValueError(
            f"format of {path} must be {DETECTIONS_FORMAT!r}; got {file_format!r}: make the file "
            "with `bevstack predict --rig`, or draw a nuScenes results file with --nuscenes"
        )
    entries = content.get("detections")
    if not isinstance(entries, list):
        raise ValueError(f"detections of {path} must be a list; got {type(entries).__name__}")
    return entries


def _column(path: Path, entries: list[Any], field: str) -> Tensor:  # (D, ...)
    shape = _NUMBERS[field]
    column = np.empty((len(entries), *shape), np.float32)
    for number, entry in enumerate(entries):
        try:
            value = np.asarray(entry[field], np.float32)
        except (KeyError, TypeError, ValueError):
            value = np.empty(0, np.float32)
        if value.shape != shape:
            expected = f"{shape[0]} numbers" if shape else "a number"
            raise ValueError(
                f"{field} of box {number} of {path} must be {expected}; got {entry.get(field)!r}"
            )
        column[number] = value
    return torch.from_numpy(column)
