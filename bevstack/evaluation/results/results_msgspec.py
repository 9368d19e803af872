"""The fast reader of results files: msgspec parses sample by sample into typed boxes.

Only the boxes of some samples are Python objects at a time; their numbers go into columns at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import UNKNOWN_POINTS, BoxColumns
from bevstack.evaluation.results.box_entries import (
    CODE_OF_ATTRIBUTE,
    LABEL_OF_NAME,
    MAX_BOXES,
    Entries,
    assemble,
)

CHUNK = 4  # samples whose boxes are Python objects at one time: as many as fit a core's cache

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


class Parsed(NamedTuple):
    """A file's content, no more of which is needed."""

    meta: dict[str, Any]
    tokens: list[str]
    pieces: list[Entries]


def read_fast(path: Path) -> tuple[dict[str, object], BoxColumns] | None:
    """Meta and columns, or None where the plain way must say what is wrong, or that nothing is.

    Raises:
        OSError: the file cannot be read.
    """
    parsed, nulls = _parse(path.read_bytes()), 0
    if parsed is None:
        changed, nulls = _NAN.subn(b"null", path.read_bytes())
        parsed = _parse(changed) if nulls else None
    if parsed is None or any(max(piece.counts) > MAX_BOXES for piece in parsed.pieces):
        return None
    boxes = assemble(parsed.tokens, parsed.pieces)
    # right only if every null is found again among the velocities, and none in any text
    if np.count_nonzero(np.isnan(boxes.velocity)) != nulls:
        return None
    return parsed.meta, boxes


def _parse(data: bytes) -> Parsed | None:
    try:
        file = msgspec.json.decode(data, type=File)
        return Parsed(file.meta, list(file.results), list(_pieces(file.results)))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _pieces(results: Mapping[str, msgspec.Raw]) -> Iterator[Entries]:
    decode = msgspec.json.Decoder(list[Box]).decode
    tokens = list(results)
    for first in range(0, len(tokens), CHUNK):
        chunk = tokens[first : first + CHUNK]
        yield _entries(chunk, [decode(results[token]) for token in chunk])


def _entries(tokens: Sequence[str], lists: Sequence[list[Box]]) -> Entries:
    boxes = list(chain.from_iterable(lists))
    return Entries(
        counts=[len(of_sample) for of_sample in lists],
        strange=_strange(tokens, lists),
        translation=_numbers(boxes, "translation", 3),
        size=_numbers(boxes, "size", 3),
        rotation=_numbers(boxes, "rotation", 4),
        velocity=_numbers(boxes, "velocity", 2),
        score=np.fromiter(map(attrgetter("detection_score"), boxes), np.float64, len(boxes)),
        label=_codes(boxes, "detection_name", LABEL_OF_NAME),
        attribute=_codes(boxes, "attribute_name", CODE_OF_ATTRIBUTE),
        num_points=np.fromiter(map(attrgetter("num_pts"), boxes), np.int32, len(boxes)),
    )


def _numbers(boxes: Sequence[Box], name: str, width: int) -> NDArray[np.float64]:
    values = list(map(attrgetter(name), boxes))
    try:
        flat = np.fromiter(chain.from_iterable(values), np.float64, len(boxes) * width)
    except TypeError:  # a null, which becomes NaN
        flat = np.array(values, dtype=np.float64)
    return flat.reshape(-1, width)


def _codes(boxes: Sequence[Box], name: str, code_of: Mapping[str, int]) -> NDArray[np.int8]:
    names = map(attrgetter(name), boxes)
    return np.fromiter(map(code_of.__getitem__, names), np.int8, len(boxes))


def _strange(tokens: Sequence[str], lists: Sequence[list[Box]]) -> dict[int, str]:
    strange, first = {}, 0
    for token, boxes in zip(tokens, lists, strict=True):
        named = [box.sample_token for box in boxes]
        if named.count(token) != len(named):
            others = (number for number, name in enumerate(named) if name != token)
            strange.update((first + number, named[number]) for number in others)
        first += len(boxes)
    return strange
