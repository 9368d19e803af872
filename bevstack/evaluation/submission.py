"""Results files of the nuScenes detection task: writing them whole, reading them with care."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.result_boxes import MAX_BOXES, ResultBoxes, results_of_frame
from bevstack.files import write_text_atomically
from bevstack.tables.names import ATTRIBUTES, DETECTION_CLASSES

Results = Mapping[str, Sequence[Mapping[str, object]]]  # sample token -> its boxes, as in JSON

# What the format wants to know about a method's input: cameras, and nothing else.
CAMERA_META: Mapping[str, bool] = MappingProxyType(
    {
        "use_camera": True,
        "use_lidar": False,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
)

_FIELDS = (
    "sample_token",
    "translation",
    "size",
    "rotation",
    "velocity",
    "detection_name",
    "detection_score",
    "attribute_name",
)


@dataclass(frozen=True)
class Submission:
    """The content of a results file as columns."""

    meta: Mapping[str, object]
    boxes: Mapping[str, ResultBoxes]  # by sample token, in file order

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """Samples in file order."""
        return tuple(self.boxes)

    def of(self, sample_token: str) -> ResultBoxes:
        """Boxes of one sample.

        Raises:
            ValueError: the file holds no such sample.
        """
        if sample_token not in self.boxes:
            raise ValueError(
                f"sample_token must be one of the {len(self.boxes)} samples of the results file; "
                f"got {sample_token!r}: it was made for other samples"
            )
        return self.boxes[sample_token]


def write_submission(
    path: Path | str,
    results: Results,
    meta: Mapping[str, object] = CAMERA_META,
) -> None:
    """Writes a results file, one sample a line; an older file stays whole until it is complete.

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
    """
    write_text_atomically(path, _pieces(results, meta))


def read_results(path: Path | str) -> tuple[dict[str, object], dict[str, list[dict[str, object]]]]:
    """Meta and results of a file as they stand in it, not yet checked box by box.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON (with the place), or not of the format.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"results file must exist; got no file {path}: make it with `bevstack predict`"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"results file must be JSON; got {error} in {path}: the file is cut off or damaged"
        ) from None
    for field in ("meta", "results"):
        if not isinstance(content, dict) or not isinstance(content.get(field), dict):
            raise ValueError(
                f"results file must be an object with the objects 'meta' and 'results'; got no "
                f"{field!r} in {path}"
            )
    return content["meta"], content["results"]


def read_submission(path: Path | str) -> Submission:
    """A results file as columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: see ``read_results``; a box without a field, with a number that is not finite
            (a velocity may be NaN), or of an unknown class or attribute (with the nearest name);
            more than 500 boxes in a sample.
    """
    meta, results = read_results(path)
    return Submission(meta, {token: check_boxes(token, boxes) for token, boxes in results.items()})


def check_boxes(
    sample_token: str,
    boxes: Sequence[Mapping[str, object]],
) -> ResultBoxes:
    """The boxes of one sample as columns.

    Raises:
        ValueError: names the sample, the box and the field.
    """
    if not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        got = f"{len(boxes)}" if isinstance(boxes, list) else repr(boxes)[:40]
        raise ValueError(
            f"results of sample {sample_token!r} must be a list of at most {MAX_BOXES} boxes; got "
            f"{got}"
        )
    for number, box in enumerate(boxes):
        absent = [field for field in _FIELDS if not isinstance(box, dict) or field not in box]
        if absent:
            raise ValueError(
                f"box {number} of sample {sample_token!r} must have the field {absent[0]!r}; got "
                f"{', '.join(box) if isinstance(box, dict) else repr(box)[:40]}"
            )
    where = f"of sample {sample_token!r}"
    names = [_known(b["detection_name"], DETECTION_CLASSES, "detection_name", where) for b in boxes]
    attributes = [
        _known(b["attribute_name"], (*ATTRIBUTES, ""), "attribute_name", where) for b in boxes
    ]
    found = ResultBoxes(
        translation=_numbers(boxes, "translation", (3,), where),
        size=_numbers(boxes, "size", (3,), where),
        rotation=_numbers(boxes, "rotation", (4,), where),
        velocity=_numbers(boxes, "velocity", (2,), where, finite=False),
        score=_numbers(boxes, "detection_score", (), where),
        label=np.array([DETECTION_CLASSES.index(name) for name in names], dtype=np.int64),
        attribute=tuple(attributes),
    )
    _check_ranges(found, where)
    return found


def _check_ranges(boxes: ResultBoxes, where: str) -> None:
    """What the metric would trip over, or quietly misjudge."""
    for field, good, wanted in (
        ("size", (boxes.size > 0).all(-1), "three positive numbers"),
        ("rotation", (boxes.rotation != 0).any(-1), "a quaternion of non-zero length"),
        ("detection_score", boxes.score >= 0, ">= 0"),
    ):
        if not good.all():
            number = int(np.argmin(good))
            values = boxes.score if field == "detection_score" else getattr(boxes, field)
            raise ValueError(
                f"{field} of box {number} {where} must be {wanted}; got {values[number].tolist()}"
            )


def _pieces(results: Results, meta: Mapping[str, object]) -> Iterator[str]:
    yield f'{{"meta": {json.dumps(dict(meta))}, "results": {{'
    for number, (token, boxes) in enumerate(results.items()):
        yield f"{',' if number else ''}\n{json.dumps(token)}: {json.dumps(list(boxes))}"
    yield "\n}}\n"


def _known(value: object, known: Sequence[str], field: str, where: str) -> str:
    if not isinstance(value, str) or value not in known:
        near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.0)
        raise ValueError(
            f"{field} {where} must be one of {', '.join(filter(None, known))}; got {value!r}; did "
            f"you mean {near[0]!r}?"
        )
    return value


def _numbers(
    boxes: Sequence[Mapping[str, object]],
    field: str,
    shape: tuple[int, ...],
    where: str,
    *,
    finite: bool = True,
) -> NDArray[np.float64]:
    try:
        columns = np.array([box[field] for box in boxes], dtype=np.float64)
    except (ValueError, TypeError):
        columns = np.empty(0)
    fits = columns.shape == (len(boxes), *shape) or not boxes
    if fits and (not finite or np.isfinite(columns).all()):
        return columns.reshape(len(boxes), *shape)
    number = _first_misfit([box[field] for box in boxes], shape)
    wanted = f"{shape[0]} finite numbers" if shape else "a finite number"
    got = boxes[number][field]
    raise ValueError(f"{field} of box {number} {where} must be {wanted}; got {got!r}")


def _first_misfit(values: Sequence[object], shape: tuple[int, ...]) -> int:
    for number, value in enumerate(values):
        try:
            array = np.array(value, dtype=np.float64)
        except (ValueError, TypeError):
            return number
        if array.shape != shape or not np.isfinite(array).all():
            return number
    return 0


__all__ = [
    "CAMERA_META",
    "Results",
    "Submission",
    "check_boxes",
    "read_results",
    "read_submission",
    "results_of_frame",
    "write_submission",
]
