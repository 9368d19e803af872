"""Scoring of a file of tracks against the tables, and files of metrics in the devkit's form."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bevstack.evaluation.metrics_source import refuse_other_owner, relative_name
from bevstack.evaluation.results.box_entries import Results
from bevstack.evaluation.scoring import (
    DETAILS_NAME,
    SOURCE_KEY,
    SUMMARY_NAME,
    check_samples,
    rows_of_samples,
)
from bevstack.evaluation.tracking.class_scores import ClassScores
from bevstack.evaluation.tracking.track_file import TrackSubmission, parse_tracks, read_tracks
from bevstack.evaluation.tracking.track_truth import (
    TrackingTruth,
    predicted_tracks,
    tracking_truth,
    true_tracks,
)
from bevstack.evaluation.tracking.tracking_config import TrackingMetricConfig
from bevstack.evaluation.tracking.tracking_metrics import TrackingMetrics, evaluate_tracks
from bevstack.files import write_text_atomically
from bevstack.json_files import read_json
from bevstack.tables.reader import Tables
from bevstack.tables.splits import is_official

MORE_NAME = "tracking_more.json"


class LoadedTracks(NamedTuple):
    """A file of tracks and the truth of its samples."""

    submission: TrackSubmission
    truth: TrackingTruth


class ScoredTracks(NamedTuple):
    """Loaded tracks and their metrics."""

    loaded: LoadedTracks
    metrics: TrackingMetrics
    seconds: float  # time of scoring, without loading


def load_tracks(
    results: Path | str | Results,
    tables: Tables,
    split: str | Sequence[str] | None,
    *,
    strict: bool = False,
) -> LoadedTracks:
    """Read tracks and truth, and check that they have the same samples.

    Args:
        results: a file of tracks, or its ``results`` object.
        tables: the version's tables.
        split: an official split, a split of the version's ``splits.json``, or names of scenes;
            None: all samples of the version. Tracks of further samples are an error in an official
            split and ignored in another one.
        strict: accept what the devkit accepts; see ``read_tracks``.

    Raises:
        FileNotFoundError: the file or a table does not exist.
        ValueError: the tracks are not of the format or lack samples of the split; the split or a
            scene does not exist; or the tables are inconsistent.
    """
    samples = rows_of_samples(tables, split)
    if isinstance(results, (Path, str)):
        submission = read_tracks(results, strict=strict)
    else:
        submission = parse_tracks(results, strict=strict)
    truth = tracking_truth(tables, samples, strict=strict)
    exact = split is None or is_official(split)
    check_samples(submission.boxes.sample_tokens, truth.ground, split, tables, exact=exact)
    return LoadedTracks(submission, truth)


def score_tracks(loaded: LoadedTracks, config: TrackingMetricConfig | None = None) -> ScoredTracks:
    """Score loaded tracks, and measure the time.

    If no true box counts, every figure is NaN or 0, as in the devkit, and a warning gives the
    reason.

    Raises:
        ValueError: see ``evaluate_tracks``.
    """
    start = time.perf_counter()
    config = config or TrackingMetricConfig()
    truth = true_tracks(loaded.truth, config)
    if not len(truth):
        warnings.warn(
            "AMOTA is undefined: no true box of the tracked classes with points lies within range",
            stacklevel=2,
        )
    predictions = predicted_tracks(loaded.submission, loaded.truth, config)
    metrics = evaluate_tracks(predictions, truth, loaded.truth.frames, config)
    return ScoredTracks(loaded, metrics, time.perf_counter() - start)


def evaluate_track_results(
    results: Path | str | Results,
    root: Path | str,
    version: str,
    split: str | Sequence[str],
    out_dir: Path | str | None = None,
    *,
    strict: bool = False,
) -> TrackingMetrics:
    """Score tracks with the tracking metric of nuScenes (``tracking_nips_2019``).

    Args:
        results: a file of tracks, or its ``results`` object.
        root: the folder that holds the version's folder.
        version: the folder of the 13 tables.
        split: an official split, a split of the version's ``splits.json``, or names of scenes.
        out_dir: folder for ``metrics_summary.json`` and ``metrics_details.json``, in the devkit's
            form; None: nothing is written.
        strict: accept and refuse the same input as the devkit; see ``read_tracks``.

    Raises:
        FileNotFoundError: the file, root, version or a table does not exist.
        ValueError: see ``load_tracks``.
        OSError: the files cannot be written.
    """
    scored = score_tracks(load_tracks(results, Tables(root, version), split, strict=strict))
    if out_dir is not None:
        write_tracking_metrics(Path(out_dir), scored)
    return scored.metrics


def write_tracking_metrics(
    folder: Path,
    scored: ScoredTracks,
    config: TrackingMetricConfig | None = None,
    *,
    results: Path | None = None,
) -> Path:
    """Write both files of metrics in the devkit's form, and ``tracking_more.json``.

    Args:
        folder: created if needed.
        scored: the metrics.
        config: settings of the metric; None: ``tracking_nips_2019``.
        results: the scored file, which ``tracking_more.json`` names.

    Returns:
        The path of the summary.

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
    """
    config = config or TrackingMetricConfig()
    metrics = scored.metrics
    summary = {
        "label_metrics": metrics.by_class(),
        "eval_time": scored.seconds,
        "cfg": config.devkit_form(),
        **metrics.figures(),
        "meta": dict(scored.loaded.submission.meta),
    }
    details = {scores.name: details_of(scores) for scores in metrics.classes}
    more = more_figures(scored)
    if results is not None:
        more = {SOURCE_KEY: {"results": relative_name(results, folder)}, **more}
    for name, content in ((MORE_NAME, more), (DETAILS_NAME, details), (SUMMARY_NAME, summary)):
        write_text_atomically(folder / name, json.dumps(content, indent=2))
    return folder / SUMMARY_NAME


def details_of(scores: ClassScores) -> dict[str, list[float]]:
    """Return the figures of a class at every recall level, as in ``metrics_details.json``."""
    return {
        "confidence": scores.confidence.tolist(),
        "recall_hypo": scores.recall_level.tolist(),
        **{name: values.tolist() for name, values in scores.figures.items()},
    }


def more_figures(scored: ScoredTracks) -> dict[str, Any]:
    """Return figures that AMOTA hides.

    They are the number of recall levels that each class reaches, and identity switches and
    fragments per 100 m that the vehicle drove, at the levels of the summary.
    """
    truth, figures = scored.loaded.truth, scored.metrics.figures()
    same_scene = np.diff(truth.frames.scene) == 0
    steps = np.diff(truth.ground.ego_translation[:, :2], axis=0)[same_scene]
    driven_m = float(np.hypot(steps[:, 0], steps[:, 1]).sum())
    hundreds = driven_m / 100 if driven_m else float("nan")
    return {
        "driven_m": driven_m,
        "ids_per_100_m": figures["ids"] / hundreds,
        "frag_per_100_m": figures["frag"] / hundreds,
        "levels_reached": {scores.name: scores.levels_reached for scores in scored.metrics.classes},
    }


def check_tracking_owner(folder: Path, results: Path) -> None:
    """Check that a folder holds no metrics of another file than the given one.

    Raises:
        FileExistsError: the folder holds the metrics of another file, or of an unknown one.
    """
    if not (folder / SUMMARY_NAME).is_file():
        return
    owner: object = None
    if (folder / MORE_NAME).is_file():
        try:
            content = read_json(folder / MORE_NAME, "file of tracking figures", allow_nan=True)
            owner = content.get(SOURCE_KEY, {}).get("results")
        except (ValueError, AttributeError):
            pass  # damaged, or written by another program
    refuse_other_owner(folder, results, owner)
