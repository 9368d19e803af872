"""Files of tracks in nuScenes' format: complete writes and checked reads.

A file of the tracking task holds the boxes of each sample, as one of the detection task does, with
``tracking_id``, ``tracking_name`` and ``tracking_score`` instead of class, score and attribute.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.detection3d.input_checks import check_devkit_rules, check_predictions
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.results.box_entries import (
    BoxForm,
    Results,
    assemble,
    parse_entries,
)
from bevstack.evaluation.results.results_json import results_object
from bevstack.evaluation.results.submission import CAMERA_META, is_columns, write_submission
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES
from bevstack.file_bytes import read_bytes
from bevstack.json_files import MAX_TEXT, parse_json, shorten
from bevstack.vocabulary import DETECTION_CLASSES

_LOG = logging.getLogger(__name__)
_REMEDY = "make it with `bevstack predict --track --tracks FILE`"
TRACKING_FORM = BoxForm(
    name="tracking_name",
    score="tracking_score",  # not required: the format's score of a box without one is -1
    label_from_name={name: DETECTION_CLASSES.index(name) for name in TRACKING_CLASSES},
    fields=(
        *("sample_token", "translation", "size", "rotation", "velocity"),
        *("tracking_id", "tracking_name"),
    ),
    foreign="detection_name",
    remedy=f": these boxes are of the detection task, without identities; {_REMEDY}",
)


@dataclass(frozen=True)
class TrackSubmission:
    """Content of a file of tracks."""

    meta: Mapping[str, object]
    boxes: BoxColumns  # in file order; no attributes
    identity: NDArray[np.int64]  # (M,) index into ``identities``
    identities: tuple[str, ...]  # the values of ``tracking_id``; the same in two scenes: two tracks


def parse_tracks(
    results: Results, meta: Mapping[str, object] | None = None, *, strict: bool = False
) -> TrackSubmission:
    """Parse the ``results`` object of a file of tracks.

    Args:
        results: sample token -> its boxes, as in JSON.
        meta: the file's ``meta``; None: an empty one.
        strict: accept what the devkit loads: infinite values, sizes that are not positive, two
            boxes of a sample with one identity, a score that is a text.

    Raises:
        ValueError: a sample's value is not a list of at most 500 boxes; a box lacks a field or has
            an unknown class; a value is of another kind, not finite or out of range; or two boxes
            of a sample have the same identity. Names the sample, the box and the field.
    """
    pieces = [
        parse_entries(token, boxes, strict=strict, form=TRACKING_FORM)
        for token, boxes in results.items()
    ]
    boxes = assemble(list(results), pieces)
    if strict and len(boxes):
        check_devkit_rules(boxes, MetricConfig(), score_field=TRACKING_FORM.score)
    elif len(boxes):
        check_predictions(boxes, MetricConfig(), score_field=TRACKING_FORM.score)
    number: dict[str, int] = {}
    identity = [
        number.setdefault(_expect_identity(box["tracking_id"], token, k), len(number))
        for token, listed in results.items()
        for k, box in enumerate(listed)
    ]
    submission = TrackSubmission(
        dict(meta or {}), boxes, np.array(identity, dtype=np.int64), tuple(number)
    )
    if not strict:
        _check_distinct(submission)
    return submission


def read_tracks(path: Path | str, *, strict: bool = False) -> TrackSubmission:
    """Read a file of tracks.

    Args:
        path: the file, JSON.
        strict: see ``parse_tracks``; a sample may then also occur twice, and the last one counts.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON (names the byte) or not of the format; see also
            ``parse_tracks``.
    """
    path = Path(path)
    if is_columns(path):
        raise ValueError(f"file of tracks must be JSON; got columns of boxes in {path}: {_REMEDY}")
    data = read_bytes(path, "file of tracks", remedy=_REMEDY, max_bytes=None)
    content = parse_json(
        data, "file of tracks", place=f" in {path}", allow_nan=True, unique_keys=not strict
    )
    meta, results = results_object(content, path)
    submission = parse_tracks(results, meta, strict=strict)
    counts = len(submission.boxes), len(submission.identities)
    _LOG.info("read %s: %d boxes of %d identities", path, *counts)
    return submission


def write_tracks(
    path: Path | str,
    results: Results,
    meta: Mapping[str, object] = CAMERA_META,
) -> None:
    """Write a file of tracks, one sample a line; an older file is replaced only by a complete one.

    Args:
        path: the file, JSON.
        results: sample token -> boxes as ``track_entries`` returns them.
        meta: the kinds of input that the method uses.

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
        ValueError: the path's suffix asks for columns, or the results are refused by
            ``parse_tracks``.
    """
    if is_columns(path):
        raise ValueError(f"file of tracks must be JSON; got the name {path}: let it end in .json")
    parse_tracks(results)
    write_submission(path, results, meta)


def _expect_identity(value: object, sample_token: str, number: int) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_TEXT:
        return value
    raise ValueError(
        f"tracking_id of box {number} of sample {shorten(sample_token)} must be a text of 1 to "
        f"{MAX_TEXT} characters; got {shorten(value)}"
    )


def _check_distinct(submission: TrackSubmission) -> None:
    """Check that the boxes of each sample have different identities."""
    sample, identity = submission.boxes.sample, submission.identity
    key = sample.astype(np.int64) * max(1, len(submission.identities)) + identity
    _, first = np.unique(key, return_index=True)
    if len(first) == len(key):
        return
    repeated = np.ones(len(key), dtype=np.bool_)
    repeated[first] = False
    row = int(np.argmax(repeated))
    name = submission.identities[identity[row]]
    raise ValueError(
        f"tracking_id of {submission.boxes.describe(row)} must differ from those of the sample's "
        f"previous boxes; got {shorten(name)} again"
    )


def identities_by_scene(
    scene: NDArray[np.int32],  # (M,) of each box
    identity: NDArray[np.int64],  # (M,) index into ``identities``
    identities: Sequence[str],
) -> NDArray[np.int64]:  # (M,)
    """Return numbers of tracks from 0 on: an identity in two scenes is two tracks."""
    key = scene.astype(np.int64) * max(1, len(identities)) + identity
    track: NDArray[np.int64] = np.unique(key, return_inverse=True)[1]
    return track
