"""Results files of the nuScenes detection task: complete writes and checked reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.detection3d.input_checks import check_predictions
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.results.box_entries import MAX_BOXES, Results, columns_of_results
from bevstack.evaluation.results.results_json import ReadResults, read_results
from bevstack.files import write_text_atomically
from bevstack.vocabulary import ATTRIBUTES

if TYPE_CHECKING:
    from bevstack.evaluation.results.result_boxes import ResultBoxes

_LOG = logging.getLogger(__name__)
# The format's description of a method's input: cameras alone.
CAMERA_META: Mapping[str, bool] = MappingProxyType(
    {
        "use_camera": True,
        "use_lidar": False,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
)
COLUMNS_SUFFIX = ".safetensors"  # suffix of results files with columns instead of JSON


@dataclass(frozen=True)
class Submission:
    """Content of a results file."""

    meta: Mapping[str, object]
    boxes: BoxColumns  # in file order

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """Return the samples in file order."""
        return tuple(self.boxes.sample_tokens.tolist())

    def select_sample(self, sample_token: str) -> ResultBoxes:
        """Return the boxes of one sample.

        Raises:
            ValueError: the file does not hold the sample.
        """
        from bevstack.evaluation.results.result_boxes import (
            ResultBoxes,  # imports torch, which most callers do not need
        )

        if sample_token not in self._rows:
            raise ValueError(
                f"sample_token must be one of the {len(self._rows)} samples of the results file; "
                f"got {sample_token!r}: use the results file of these samples"
            )
        boxes = self.boxes[self._rows[sample_token]]
        return ResultBoxes(
            translation=boxes.translation,
            size=boxes.size,
            rotation=boxes.rotation,
            velocity=boxes.velocity,
            score=boxes.score,
            label=boxes.label.astype(np.int64),
            attribute=tuple((*ATTRIBUTES, "")[code] for code in boxes.attribute),
        )

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        """Return the rows of each sample's boxes."""
        order = np.argsort(self.boxes.sample, kind="stable")
        counts = np.bincount(self.boxes.sample, minlength=len(self.boxes.sample_tokens))
        parts = np.split(order, np.cumsum(counts)[:-1]) if len(counts) else []
        return dict(zip(self.sample_tokens, parts, strict=True))


def write_submission(
    path: Path | str,
    results: Results,
    meta: Mapping[str, object] = CAMERA_META,
) -> None:
    """Write a results file, one sample per line; an older file is replaced only by a complete one.

    A path that ends in ".safetensors" gets columns, which are scored without parsing JSON.

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
        ValueError: the path asks for columns, and the results are not of the format.
    """
    if Path(path).suffix != COLUMNS_SUFFIX:
        write_text_atomically(path, _pieces(results, meta))
        return
    from bevstack.evaluation.results.columns_file import write_columns

    write_columns(path, columns_of_results(results), meta)


def read_submission(path: Path | str, *, strict: bool = False) -> Submission:
    """Read a results file, JSON or columns.

    Args:
        path: the file.
        strict: accept whatever the devkit loads; only the form of the boxes is checked.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON (names the byte) or not of the format; a box lacks a field
            or has an unknown class or attribute (suggests the nearest name); a sample has more than
            500 boxes; or a box is refused by ``check_predictions``.
    """
    content = _read_columns(path) if is_columns(path) else read_results(path, strict=strict)
    if not strict:
        check_predictions(content.boxes, MetricConfig())
    counts = len(content.boxes), len(content.boxes.sample_tokens)
    _LOG.info("read %s: %d boxes of %d samples", path, *counts)
    return Submission(*content)


def is_columns(path: Path | str) -> bool:
    """Return True if a results file holds columns, judged by the suffix of its name."""
    return Path(path).suffix == COLUMNS_SUFFIX


def check_boxes(
    sample_token: str,
    boxes: Sequence[Mapping[str, object]],
) -> ResultBoxes:
    """Check and return the boxes of one sample.

    Raises:
        ValueError: see ``read_submission``; names the sample, the box and the field.
    """
    columns = columns_of_results({sample_token: boxes})
    check_predictions(columns, MetricConfig())
    return Submission({}, columns).select_sample(sample_token)


def _read_columns(path: Path | str) -> ReadResults:
    """Read a file of columns."""
    from bevstack.evaluation.results.columns_file import read_columns

    return read_columns(path)


def _pieces(results: Results, meta: Mapping[str, object]) -> Iterator[str]:
    """Yield the text of a results file, one sample at a time."""
    yield f'{{"meta": {json.dumps(dict(meta))}, "results": {{'
    for number, (token, boxes) in enumerate(results.items()):
        yield f"{',' if number else ''}\n{json.dumps(token)}: {json.dumps(list(boxes))}"
    yield "\n}}\n"


__all__ = [
    "CAMERA_META",
    "MAX_BOXES",
    "Results",
    "Submission",
    "check_boxes",
    "read_submission",
    "write_submission",
]
