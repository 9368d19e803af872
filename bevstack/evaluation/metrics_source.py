"""The results file and the samples that a metrics file belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from bevstack.evaluation.detection3d.metrics import DetectionMetrics
from bevstack.evaluation.scoring import SOURCE_KEY, SUMMARY_NAME, Scored, write_metrics
from bevstack.files import naming


def write_metrics_of(
    results: Path,
    scored: Scored,
    folder: Path,
    *,
    scenes: str | Sequence[str] | None,
    only_predicted: bool = False,
) -> Path:
    """Write the metrics of a results file, which the summary names under "scored".

    Args:
        results: the scored file.
        scored: its metrics.
        folder: created if needed.
        scenes: the split or the names of the scenes; None: all of the version.
        only_predicted: True if samples without results were left out.

    Returns:
        The path of the summary.

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
    """
    source = {
        "results": relative_name(results, folder),
        "samples": len(scored.loaded.samples),
        "scenes": scenes,
        "only_predicted": only_predicted,
    }
    write_metrics(folder, scored, source=source)
    return folder / SUMMARY_NAME


def relative_name(results: Path, folder: Path) -> str:
    """Return the path of a results file relative to the folder of its metrics."""
    return Path(os.path.relpath(results.absolute(), folder.absolute())).as_posix()


def check_owner(folder: Path, results: Path, metrics: DetectionMetrics | None = None) -> None:
    """Check that a folder holds no metrics of another results file.

    Metrics that do not name their file, as the devkit writes them, are of this file if they are
    equal to ``metrics``; without ``metrics``, they are not checked.

    Raises:
        FileExistsError: the folder holds the metrics of another file, or of an unknown one.
    """
    path = folder / SUMMARY_NAME
    if not path.is_file():
        return
    source = owner = None
    try:
        with naming(path):
            summary = json.loads(path.read_bytes())
        source = summary.get(SOURCE_KEY, {}).get("results")
        owner = DetectionMetrics.from_summary(summary)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # damaged, or written by another program
    same = metrics is None or (owner is not None and owner.figures() == metrics.figures())
    if source is not None or not same:
        refuse_other_owner(folder, results, source)


def refuse_other_owner(folder: Path, results: Path, owner: object) -> None:
    """Check that the owner of a folder's metrics is a results file.

    Args:
        folder: it holds metrics.
        results: the results file.
        owner: the name of the file that the metrics are of; anything but a text: unknown.

    Raises:
        FileExistsError: the metrics are of another file, or of an unknown one.
    """
    if owner == relative_name(results, folder):
        return
    name = f"metrics of {owner}" if isinstance(owner, str) else "metrics of an unknown file"
    raise FileExistsError(
        f"{folder / SUMMARY_NAME} must not be of another results file than {results}; got {name}: "
        "give another --out DIR, or remove it"
    )
