"""JSON files with the boxes of one frame, as ``bevstack predict --rig`` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_numbers,
    expect_object,
    expect_text,
    read_json,
    shorten,
)
from bevstack.types import Boxes3D, Detections
from bevstack.types.detections import DETECTIONS_FORMAT
from bevstack.types.sectors import SectorTrust
from bevstack.types.uncertainty import BoxUncertainty

FRAMES_DETECTIONS_FORMAT = "bevstack-frames-detections-1"  # of `frame_detections_file`
EGO_FRAME = "ego"  # the only one
_MAX_BYTES = 1 << 26  # 200,000 boxes
_MAX_NUMBER = 1e9  # of metres, radians or metres per second; a greater one is no measurement

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
    *,
    sectors: SectorTrust | None = None,
) -> None:
    """Write boxes in the ego frame as ``Detections.save`` does, with the trust in sectors if known.

    Raises:
        OSError: the file cannot be written.
        ValueError: a score, centre, size or heading is not finite.
    """
    replace(detections, class_names=tuple(class_names)).save(path, timestamp_us, sectors=sectors)


def read_detections(path: Path | str) -> tuple[Detections, tuple[str, ...]]:
    """Read boxes in the ego frame, best first, and the names of their classes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON or has another format or frame, or a box lacks a field or
            has a value of another kind: a text or null for a number, a score outside 0 to 1, a size
            that is not positive, NaN or infinity. The message names the box and the field.
    """
    path = Path(path)
    entries = _entries(path)
    names = tuple(sorted({_class_name(str(path), *numbered) for numbered in enumerate(entries)}))
    detections = boxes_from_entries(str(path), entries, names)
    return detections[torch.argsort(detections.scores, descending=True, stable=True)], names


def boxes_from_entries(where: str, entries: list[Any], class_names: Sequence[str]) -> Detections:
    """Return the boxes of JSON objects in their order; ``where`` is their place in messages.

    Raises:
        ValueError: a box lacks a field, has a value of another kind, or is of an unknown class; or
            only some boxes have an uncertainty.
    """
    classes = [_class_name(where, number, entry) for number, entry in enumerate(entries)]
    columns = {
        field: torch.from_numpy(
            np.array(
                [_value(where, number, entry, field) for number, entry in enumerate(entries)],
                dtype=np.float32,
            ).reshape(-1, *shape)
        )
        for field, shape in _NUMBERS.items()
    }
    for number, name in enumerate(classes):
        if name not in class_names:
            raise ValueError(
                f"class of box {number} of {where} must be one of {', '.join(class_names)}; got "
                f"{shorten(name)}"
            )
    labels = torch.tensor([class_names.index(name) for name in classes], dtype=torch.int64)
    boxes = Boxes3D(
        columns["center_m"], columns["size_m"], columns["yaw_rad"], columns["velocity_mps"]
    )
    uncertainty = None
    if any("uncertainty" in entry for entry in entries):
        found = [
            expect_field(f"box {number} of {where}", entry, "uncertainty")
            for number, entry in enumerate(entries)
        ]
        uncertainty = BoxUncertainty.from_entries(where, found)
    return Detections(boxes, columns["score"], labels, tuple(class_names), uncertainty)


def _entries(path: Path) -> list[Any]:
    content = read_json(
        path,
        "results file",
        remedy="make it with `bevstack predict --rig`",
        max_bytes=_MAX_BYTES,
        allow_nan=True,  # NaN is refused with its box and field
    )
    file_format = content.get("format") if isinstance(content, dict) else None
    if file_format == FRAMES_DETECTIONS_FORMAT:
        raise ValueError(
            f"{path} must hold the boxes of one frame; got those of several: give --frames with "
            "it, or read it with read_frame_detections"
        )
    if file_format != DETECTIONS_FORMAT:
        raise ValueError(
            f"format of {path} must be {DETECTIONS_FORMAT!r}; got {shorten(file_format)}: make the "
            "file with `bevstack predict --rig`, or draw a nuScenes results file with --nuscenes"
        )
    frame = content.get("frame", EGO_FRAME)
    if frame != EGO_FRAME:
        raise ValueError(
            f"frame of {path} must be {EGO_FRAME!r}; got {shorten(frame)}: transform the boxes"
        )
    if content.get("timestamp_us") is not None:
        expect_integer(f"timestamp_us of {path}", content["timestamp_us"], low=0)
    return expect_list(f"detections of {path}", content.get("detections"))


def _class_name(place: str, number: int, entry: Any) -> str:
    where = f"box {number} of {place}"
    name = expect_field(where, expect_object(where, entry), "class")
    return expect_text(f"class of {where}", name)


def _value(place: str, number: int, entry: dict[str, Any], field: str) -> NDArray[np.float64]:
    """Return one value of a box, checked."""
    where = f"box {number} of {place}: {field}"
    value = expect_field(f"box {number} of {place}", entry, field)
    shape = _NUMBERS[field]
    if field == "velocity_mps" and value == [None, None]:
        return np.full(shape, np.nan)
    numbers = expect_numbers(where, value, shape)
    if field == "score" and not 0 <= numbers <= 1:
        raise ValueError(f"{where} must be from 0 to 1; got {shorten(value)}")
    if field == "size_m" and not (numbers > 0).all():
        raise ValueError(f"{where} must be positive; got {shorten(value)}")
    if (abs(numbers) > _MAX_NUMBER).any():
        raise ValueError(f"{where} must be at most {_MAX_NUMBER:g}; got {shorten(value)}")
    return numbers
