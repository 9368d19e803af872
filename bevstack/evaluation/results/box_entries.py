"""Parser of a results file, field by field: slow, but its errors name the sample, box and field."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import (
    NO_ATTRIBUTE,
    NO_SAMPLE,
    UNKNOWN_POINTS,
    BoxColumns,
)
from bevstack.json_files import shorten
from bevstack.tables.names import CATEGORY_TO_CLASS
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES

Results = Mapping[str, Sequence[Mapping[str, object]]]  # sample token -> its boxes, as in JSON

_MAX_NAME = 100  # characters of a name that a similar one is searched for
_INT64 = (1 << 63) - 1
NO_SCORE = -1.0  # the devkit's score of a box without one
MAX_BOXES = 500  # per sample; the metric refuses more
LABEL_FROM_NAME = {name: label for label, name in enumerate(DETECTION_CLASSES)}
CODE_FROM_ATTRIBUTE = {"": NO_ATTRIBUTE, **{name: code for code, name in enumerate(ATTRIBUTES)}}


class BoxForm(NamedTuple):
    """Fields of a box in the files of one task."""

    name: str  # field of the class
    score: str  # field of the score
    label_from_name: Mapping[str, int]  # class name -> index into DETECTION_CLASSES
    fields: tuple[str, ...]  # fields that every box must have
    foreign: str  # field that only boxes of the other task have
    remedy: str  # last part of the message about such a box


_COMMON_FIELDS = ("sample_token", "translation", "size", "rotation", "velocity")
DETECTION_FORM = BoxForm(
    name="detection_name",
    score="detection_score",
    label_from_name=LABEL_FROM_NAME,
    fields=(*_COMMON_FIELDS, "detection_name", "detection_score", "attribute_name"),
    foreign="tracking_name",
    remedy=": these boxes are of the tracking task; give results of the detection task",
)


class Entries(NamedTuple):
    """Boxes of some samples, sample by sample."""

    counts: list[int]  # number of boxes of each sample
    foreign: dict[int, str]  # number of a box that names another sample -> the token it names
    translation: NDArray[np.float64]  # (M, 3)
    size: NDArray[np.float64]  # (M, 3)
    rotation: NDArray[np.float64]  # (M, 4)
    velocity: NDArray[np.float64]  # (M, 2)
    score: NDArray[np.float64]  # (M,)
    label: NDArray[np.int8]  # (M,)
    attribute: NDArray[np.int8]  # (M,)
    num_points: NDArray[np.int32]  # (M,)


def columns_of_results(results: Results, *, strict: bool = False) -> BoxColumns:
    """Parse results as they are in JSON into columns.

    Values of numbers are not checked; see ``check_predictions``. With ``strict`` the kinds of
    values are the devkit's: a score may be absent, which counts as -1; score and number of points
    may be texts of a number; booleans count as numbers.

    Raises:
        ValueError: a sample's value is not a list of at most 500 boxes; a box lacks a field, has a
            wrong number of values in it, or has an unknown class or attribute (the message suggests
            the nearest name). Names the sample, the box and the field.
    """
    pieces = [parse_entries(token, boxes, strict=strict) for token, boxes in results.items()]
    return assemble(list(results), pieces)


def parse_entries(
    sample_token: str,
    boxes: object,
    *,
    strict: bool = False,
    form: BoxForm = DETECTION_FORM,
) -> Entries:
    """Parse the boxes of one sample; see ``columns_of_results``.

    A score that the form does not require is -1 if it is absent.
    """
    where = f"of sample {shorten(sample_token)}"
    if not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        got = f"{len(boxes)}" if isinstance(boxes, list) else shorten(boxes)
        raise ValueError(f"results {where} must be a list of at most {MAX_BOXES} boxes; got {got}")
    if strict:
        boxes = [_as_devkit(b, form.score) if isinstance(b, dict) else b for b in boxes]
    for number, box in enumerate(boxes):
        absent = [field for field in form.fields if not isinstance(box, dict) or field not in box]
        if absent:
            raise ValueError(
                f"box {number} {where} must have the field {absent[0]!r}; got "
                f"{', '.join(box)[:200] if isinstance(box, dict) else shorten(box)}"
                f"{form.remedy if isinstance(box, dict) and form.foreign in box else ''}"
            )

    def numbers(field: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return _numbers([b[field] for b in boxes], field, shape, where, booleans=strict)

    def codes(field: str, known: Mapping[str, int]) -> NDArray[np.int8]:
        places = (f"of box {number} {where}" for number in range(len(boxes)))
        pairs = zip(boxes, places, strict=True)
        return np.array([_known(b[field], known, field, p) for b, p in pairs], dtype=np.int8)

    attribute = np.full(len(boxes), NO_ATTRIBUTE, dtype=np.int8)
    if "attribute_name" in form.fields:
        attribute = codes("attribute_name", CODE_FROM_ATTRIBUTE)
    scores = [b.get(form.score, NO_SCORE) for b in boxes]
    points = _whole_numbers([b.get("num_pts", UNKNOWN_POINTS) for b in boxes], "num_pts", where)
    return Entries(
        counts=[len(boxes)],
        foreign=_find_foreign(sample_token, boxes, where),
        translation=numbers("translation", (3,)),
        size=numbers("size", (3,)),
        rotation=numbers("rotation", (4,)),
        velocity=numbers("velocity", (2,)),
        score=_numbers(scores, form.score, (), where, booleans=strict),
        label=codes(form.name, form.label_from_name),
        attribute=attribute,
        num_points=points,
    )


def assemble(tokens: Sequence[str], pieces: Sequence[Entries]) -> BoxColumns:
    """Join the boxes of consecutive pieces to the columns of all samples."""
    counts = [count for piece in pieces for count in piece.counts]
    sample = np.repeat(np.arange(len(tokens), dtype=np.int32), np.array(counts, dtype=np.int64))
    empty = parse_entries("", [])

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(piece, name) for piece in (empty, *pieces)])

    return BoxColumns(
        sample_tokens=np.array(tokens, dtype=np.str_),
        sample=sample,
        named_sample=_named_samples(tokens, pieces, sample),
        translation=column("translation"),
        size=column("size"),
        rotation=column("rotation"),
        velocity=column("velocity"),
        label=column("label"),
        attribute=column("attribute"),
        score=column("score"),
        num_points=column("num_points"),
    )


def _named_samples(
    tokens: Sequence[str], pieces: Sequence[Entries], sample: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the row of the sample that each box names: nearly always the sample that lists it."""
    row_from_token = {token: row for row, token in enumerate(tokens)}
    named, first = sample.copy(), 0
    for piece in pieces:
        for box, name in piece.foreign.items():
            named[first + box] = row_from_token.get(name, NO_SAMPLE)
        first += len(piece.score)
    return named


def _find_foreign(
    sample_token: str, boxes: Sequence[Mapping[str, Any]], where: str
) -> dict[int, str]:
    """Return the boxes that name another sample, as in ``Entries.foreign``."""
    for number, box in enumerate(boxes):
        name = box["sample_token"]
        if not isinstance(name, str):
            raise ValueError(
                f"sample_token of box {number} {where} must be a string; got {shorten(name)}"
            )
    names = [box["sample_token"] for box in boxes]
    return {number: name for number, name in enumerate(names) if name != sample_token}


def _known(value: object, known: Mapping[str, int], field: str, where: str) -> int:
    """Return the code of a name; an unknown name is an error that suggests the nearest one."""
    if not isinstance(value, str) or value not in known:
        nearest = _nearest(value, known)
        raise ValueError(
            f"{field} {where} must be one of {', '.join(filter(None, known))}; got "
            f"{shorten(value)}" + (f"; did you mean {nearest!r}?" if nearest else "")
        )
    return known[value]


def _nearest(value: object, known: Mapping[str, int]) -> str | None:
    """Return the class of a nuScenes category, else the known name that is spelt most alike."""
    if not isinstance(value, str) or len(value) > _MAX_NAME:
        return None
    if CATEGORY_TO_CLASS.get(value) in known:
        return CATEGORY_TO_CLASS[value]
    return next(iter(difflib.get_close_matches(value, filter(None, known), n=1, cutoff=0.75)), None)


def _as_devkit(box: Mapping[str, Any], score: str) -> dict[str, Any]:
    """Return a box with its score and number of points converted as the devkit converts them."""
    converted = {score: NO_SCORE, **box}
    for field, convert in ((score, float), ("num_pts", int)):
        with contextlib.suppress(ValueError, TypeError, OverflowError):  # refused by its own kind
            if field in converted:
                converted[field] = convert(converted[field])
    return converted


def _numbers(
    values: list[Any], field: str, shape: tuple[int, ...], where: str, *, booleans: bool = False
) -> NDArray[np.float64]:
    """Return the values of one field as an array; a value of another kind or shape is an error."""
    if not values:
        return np.empty((0, *shape))
    try:
        columns = np.array(values, dtype=np.float64)
        kinds = set(map(type, chain.from_iterable(values) if shape else values))
    except (ValueError, TypeError, OverflowError):
        columns, kinds = np.empty(0), set()
    fits = columns.shape == (len(values), *shape) and _are_numbers(kinds, booleans)
    if fits and not (np.isnan(columns).any() and any(map(_has_null, values))):
        return columns
    number = next(n for n, value in enumerate(values) if not _fits(value, shape, booleans))
    requirement = f"{shape[0]} numbers" if shape else "a number"
    raise ValueError(
        f"{field} of box {number} {where} must be {requirement}; got {shorten(values[number])}"
    )


def _whole_numbers(values: list[Any], field: str, where: str) -> NDArray[np.int32]:
    """Return whole numbers; those beyond 32 bits become the greatest ones."""
    for number, value in enumerate(values):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        whole = whole or (isinstance(value, float) and value.is_integer())
        if not whole or not -_INT64 - 1 <= value <= 2 * _INT64 + 1:  # the devkit's range
            raise ValueError(
                f"{field} of box {number} {where} must be a whole number of 64 bits; got "
                f"{shorten(value)}"
            )
    bounded = [min(max(int(value), -_INT64), _INT64) for value in values]
    return limit_to_32_bits(np.array(bounded, dtype=np.int64))


def limit_to_32_bits(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return 32-bit numbers; those outside their range become the lowest or the greatest one."""
    limits = np.iinfo(np.int32)
    return values.clip(limits.min, limits.max).astype(np.int32)


def _are_numbers(kinds: set[type], booleans: bool) -> bool:
    """Return True if no type is that of a text or, unless permitted, a boolean."""
    refused = (str, bytes) if booleans else (str, bytes, bool, np.bool_)
    return not any(issubclass(kind, refused) for kind in kinds)


def _has_null(value: object) -> bool:
    """Return True if there is a null, which numpy converts to NaN."""
    return value is None or (isinstance(value, list) and None in value)


def _fits(value: Any, shape: tuple[int, ...], booleans: bool) -> bool:
    """Return True if a value is a number, or a list of numbers, of the given shape."""
    try:
        kinds = set(map(type, value if shape else [value]))
        fits = np.array(value, dtype=np.float64).shape == shape
    except (ValueError, TypeError, OverflowError):
        return False
    return fits and _are_numbers(kinds, booleans) and not _has_null(value)
