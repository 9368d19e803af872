"""Fast reader of results files: msgspec parses each sample into typed boxes.

Only the boxes of ``CHUNK`` samples are Python objects at a time; their numbers move to columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import UNKNOWN_POINTS, BoxColumns
from bevstack.evaluation.results.box_entries import (
    CODE_FROM_ATTRIBUTE,
    LABEL_FROM_NAME,
    MAX_BOXES,
    Entries,
    assemble,
    limit_to_32_bits,
)

CHUNK = 4  # samples whose boxes are Python objects at a time: they fit into a core's cache

# NaN is not valid JSON, but Python's json writes it for an unknown velocity.
_NAN = re.compile(rb"(?<=[\[,\s])NaN(?=\s*[,\]])")

Number = float | None  # null stands for NaN

if TYPE_CHECKING:
    ClassName = str
    AttributeName = str
else:
    ClassName = Literal[tuple(LABEL_FROM_NAME)]
    AttributeName = Literal[tuple(CODE_FROM_ATTRIBUTE)]


class Box(msgspec.Struct, gc=False):
    """One box of the file."""

    sample_token: str
    translation: tuple[float, float, float]
    size: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    velocity: tuple[Number, Number]
    detection_name: ClassName
    detection_score: float
    attribute_name: AttributeName
    num_pts: int = UNKNOWN_POINTS


class File(msgspec.Struct):
    """The whole file; its samples are not parsed yet."""

    meta: dict[str, Any]
    results: dict[str, msgspec.Raw]


class Parsed(NamedTuple):
    """Content of a parsed file."""

    meta: dict[str, Any]
    tokens: list[str]
    pieces: list[Entries]


def read_fast(data: bytes) -> tuple[dict[str, object], BoxColumns] | None:
    """Read meta and columns; None if the standard library must read the file instead."""
    parsed, nulls = _parse(data), 0
    if parsed is None:
        changed, nulls = _NAN.subn(b"null", data)
        parsed = _parse(changed) if nulls else None
    if parsed is None or any(max(piece.counts) > MAX_BOXES for piece in parsed.pieces):
        return None
    boxes = assemble(parsed.tokens, parsed.pieces)
    # Correct only if every replaced NaN is a velocity; one in a text or another field is not.
    if np.count_nonzero(np.isnan(boxes.velocity)) != nulls:
        return None
    return parsed.meta, boxes


def _parse(data: bytes) -> Parsed | None:
    """Parse the file; None if it is not of the format."""
    try:
        content = msgspec.json.decode(data, type=File)
        return Parsed(content.meta, list(content.results), list(_pieces(content.results)))
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError):
        return None


def _pieces(results: Mapping[str, msgspec.Raw]) -> Iterator[Entries]:
    """Yield the boxes of the samples, ``CHUNK`` samples at a time."""
    decode = msgspec.json.Decoder(list[Box]).decode
    tokens = list(results)
    for first in range(0, len(tokens), CHUNK):
        chunk = tokens[first : first + CHUNK]
        yield _entries(chunk, [decode(results[token]) for token in chunk])


def _entries(tokens: Sequence[str], lists: Sequence[list[Box]]) -> Entries:
    """Convert the boxes of some samples to columns."""
    boxes = list(chain.from_iterable(lists))
    return Entries(
        counts=[len(boxes_of_sample) for boxes_of_sample in lists],
        foreign=_find_foreign(tokens, lists),
        translation=_numbers(boxes, "translation", 3),
        size=_numbers(boxes, "size", 3),
        rotation=_numbers(boxes, "rotation", 4),
        velocity=_numbers(boxes, "velocity", 2),
        score=np.fromiter(map(attrgetter("detection_score"), boxes), np.float64, len(boxes)),
        label=_codes(boxes, "detection_name", LABEL_FROM_NAME),
        attribute=_codes(boxes, "attribute_name", CODE_FROM_ATTRIBUTE),
        num_points=limit_to_32_bits(
            np.fromiter(map(attrgetter("num_pts"), boxes), np.int64, len(boxes))
        ),
    )


def _numbers(boxes: Sequence[Box], name: str, width: int) -> NDArray[np.float64]:
    """Return the values of one field, (M, width)."""
    values = list(map(attrgetter(name), boxes))
    try:
        flat = np.fromiter(chain.from_iterable(values), np.float64, len(boxes) * width)
    except TypeError:  # a null, which becomes NaN
        flat = np.array(values, dtype=np.float64)
    return flat.reshape(-1, width)


def _codes(boxes: Sequence[Box], name: str, code_from_name: Mapping[str, int]) -> NDArray[np.int8]:
    """Return the codes of one field's names."""
    names = map(attrgetter(name), boxes)
    return np.fromiter(map(code_from_name.__getitem__, names), np.int8, len(boxes))


def _find_foreign(tokens: Sequence[str], lists: Sequence[list[Box]]) -> dict[int, str]:
    """Return the boxes that name another sample, as in ``Entries.foreign``."""
    foreign: dict[int, str] = {}
    first = 0
    for token, boxes in zip(tokens, lists, strict=True):
        named = [box.sample_token for box in boxes]
        if named.count(token) != len(named):
            numbers = (number for number, name in enumerate(named) if name != token)
            foreign.update((first + number, named[number]) for number in numbers)
        first += len(boxes)
    return foreign
