"""Results files to view: detections, or tracks with identities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.results.submission import is_columns, read_submission
from bevstack.evaluation.tracking.track_file import TRACKING_FORM, read_tracks
from bevstack.file_bytes import read_bytes
from bevstack.viewer.moment import Indices


@dataclass(frozen=True)
class ViewedResults:
    """Boxes of one results file."""

    name: str  # of the file, without its suffix
    path: Path
    boxes: BoxColumns  # in file order
    identity: Indices | None  # (M,) number of the track; None: the file holds detections


def read_viewed(path: Path) -> ViewedResults:
    """Read a file of the detection task or of the tracking task, whichever it is.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not of either format.
    """
    if _holds_tracks(path):
        tracks = read_tracks(path)
        return ViewedResults(path.stem, path, tracks.boxes, tracks.identity)
    return ViewedResults(path.stem, path, read_submission(path).boxes, None)


def check_samples(results: ViewedResults, tokens: list[str], source: str) -> None:
    """Check that results hold a sample of those that are viewed.

    Raises:
        ValueError: they hold none.
    """
    held = results.boxes.sample_tokens
    if not np.isin(np.array(tokens), held).any():
        raise ValueError(
            f"{results.path} must hold samples of {source}; got none of them among its "
            f"{len(held)}: check --version and --scene, or give the data set that was predicted"
        )


def _holds_tracks(path: Path) -> bool:
    """Return True if a JSON file names fields of the tracking task and not of detection."""
    if is_columns(path):
        return False
    data = read_bytes(
        path, "results file", remedy="make it with `bevstack predict`", max_bytes=None
    )
    field, foreign = f'"{TRACKING_FORM.name}"'.encode(), f'"{TRACKING_FORM.foreign}"'.encode()
    return field in data and foreign not in data
