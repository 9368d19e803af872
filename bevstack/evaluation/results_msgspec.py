"""The fast reader of results files: msgspec parses sample by sample into typed boxes.

Only the boxes of some samples are Python objects at a time; their numbers go into columns at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import msgspec
import numpy as np

from bevstack.evaluation.columns import UNKNOWN_POINTS, BoxColumns
from bevstack.evaluation.entries import (
    CODE_OF_ATTRIBUTE,
    LABEL_OF_NAME,
    MAX_BOXES,
    Entries,
    assemble,
)

CHUNK = 128  # samples whose boxes are Python objects at one time

# NaN is no JSON, but Python's json writes it for a velocity that is not known.
_NAN = re.compile(rb"(?<=[\[,\s])NaN(?=\s*[,\]])")

Number = float | None  # null stands for NaN


class Box(msgspec.Struct, gc=False):
    """One box of the file."""

    sample_token: str
    translation: tuple[float, float, float]
    size: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    velocity: tuple[Number, Number]
    detection_name: Literal[tuple(LABEL_OF_NAME)]  # type: ignore[valid-type]
    detection_score: float
    attribute_name: Literal[tuple(CODE_OF_ATTRIBUTE)]  # type: ignore[valid-type]
    num_pts: int = UNKNOWN_POINTS


class File(msgspec.Struct):
    """The whole file, its samples not yet parsed."""

    meta: dict[str, Any]
    results: dict[str, msgspec.Raw]


def read_fast(data: bytes) -> tuple[dict[str, object], BoxColumns] | None:
    """Meta and columns, or None where the plain way must say what is wrong, or that nothing is."""
    found = _read(data, 0)
    if found is None and _NAN.search(data):
        # Right only if every null is found again among the velocities, and none in any text.
        changed, nulls = _NAN.subn(b"null", data)
        found = _read(changed, nulls)
    return found


def _read(data: bytes, nulls: int) -> tuple[dict[str, object], BoxColumns] | None:
    try:
        file = msgspec.json.decode(data, type=File)
        pieces = list(_pieces(file.results))
    except msgspec.DecodeError:
        return None
    if any(max(piece.counts) > MAX_BOXES for piece in pieces):
        return None
    boxes = assemble(list(file.results), pieces)
    if np.count_nonzero(np.isnan(boxes.velocity)) != nulls:
        return None
    return file.meta, boxes


def _pieces(results: Mapping[str, msgspec.Raw]) -> Iterator[Entries]:
    decode = msgspec.json.Decoder(list[Box]).decode
    tokens = list(results)
    for first in range(0, len(tokens), CHUNK):
        chunk = tokens[first : first + CHUNK]
        yield _entries(chunk, [decode(results[token]) for token in chunk])


def _entries(tokens: Sequence[str], lists: Sequence[list[Box]]) -> Entries:
    boxes = list(chain.from_iterable(lists))

    def numbers(values: Iterator[Any], width: int) -> Any:
        flat = np.fromiter(chain.from_iterable(values), np.float64, len(boxes) * width)
        return flat.reshape(-1, width)

    strange, number = {}, 0
    for token, of_sample in zip(tokens, lists, strict=True):
        for box in of_sample:
            if box.sample_token != token:
                strange[number] = box.sample_token
            number += 1
    velocity = np.array([box.velocity for box in boxes], dtype=np.float64)  # None becomes NaN
    return Entries(
        counts=[len(of_sample) for of_sample in lists],
        strange=strange,
        translation=numbers((box.translation for box in boxes), 3),
        size=numbers((box.size for box in boxes), 3),
        rotation=numbers((box.rotation for box in boxes), 4),
        velocity=velocity.reshape(-1, 2),
        score=np.array([box.detection_score for box in boxes], dtype=np.float64),
        label=np.array([LABEL_OF_NAME[box.detection_name] for box in boxes], dtype=np.int8),
        attribute=np.array([CODE_OF_ATTRIBUTE[b.attribute_name] for b in boxes], dtype=np.int8),
        num_points=np.array([box.num_pts for box in boxes], dtype=np.int32),
    )
