"""From a results file and the tables to scores, and to files of them in the devkit's own form."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import DetectionMetrics
from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES, Curve
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.evaluation.results.box_entries import Results, columns_of_results
from bevstack.evaluation.results.submission import Submission, read_submission
from bevstack.files import write_text_atomically
from bevstack.tables.reader import Tables
from bevstack.tables.splits import is_official

SUMMARY_NAME = "metrics_summary.json"
DETAILS_NAME = "metrics_details.json"


class Loaded(NamedTuple):
    """A submission and the truth that it is held against."""

    submission: Submission  # of the split's samples alone
    truth: GroundTruth
    samples: NDArray[np.int64]  # (S,) rows of the truth's samples in the tables


class Scored(NamedTuple):
    """What was scored, and how it did."""

    loaded: Loaded
    metrics: DetectionMetrics
    seconds: float  # of the scoring itself


def load(
    results: Path | str | Results,
    tables: Tables,
    split: str | Sequence[str],
    *,
    strict: bool = False,
) -> Loaded:
    """Reads results and truth, and checks that they belong together.

    Results of samples outside the split are left out, but for an official split they are an error,
    as they are to the devkit.

    Args:
        results: a results file (JSON or columns), or its ``results`` object.
        tables: the version's tables.
        split: an official split, one of the version's ``splits.json``, or names of scenes.
        strict: take what the devkit takes; see ``read_submission``.

    Raises:
        FileNotFoundError: no such results file or table.
        ValueError: results that are not of the format, or not of the split's samples; a split or
            scene that is not there; a split without true boxes; tables that do not fit together.
    """
    samples = samples_of_split(tables, split)
    truth = ground_truth(tables, samples)
    if isinstance(results, (Path, str)):
        submission = read_submission(results, strict=strict)
    else:
        submission = Submission({}, columns_of_results(results, strict=strict))
    exact = is_official(split)
    _check_samples(submission.boxes.sample_tokens, truth, split, tables, exact=exact)
    boxes = submission.boxes if exact else in_order(submission.boxes, truth)
    return Loaded(Submission(submission.meta, boxes), truth, samples)


def score(loaded: Loaded, config: MetricConfig | None = None, *, strict: bool = False) -> Scored:
    """Scores what was loaded, and takes the time; see ``evaluate``."""
    start = time.perf_counter()
    metrics = evaluate(loaded.submission.boxes, loaded.truth, config, strict=strict)
    return Scored(loaded, metrics, time.perf_counter() - start)


def evaluate_results(
    results: Path | str | Results,
    root: Path | str,
    version: str,
    split: str | Sequence[str],
    out_dir: Path | str | None = None,
    *,
    strict: bool = False,
) -> DetectionMetrics:
    """Scores results with the detection metric of nuScenes (``detection_cvpr_2019``).

    Args:
        results: a results file, or its ``results`` object.
        root: the folder that holds the version's folder.
        version: the folder of the 13 tables.
        split: an official split, one of the version's ``splits.json``, or names of scenes.
        out_dir: where ``metrics_summary.json`` and ``metrics_details.json`` go, in the devkit's
            own form; none: nowhere.
        strict: accept and refuse what the devkit does; see ``evaluate``.

    Raises:
        FileNotFoundError: no such results file, root, version or table.
        ValueError: see ``load``.
        OSError: the files cannot be written.
    """
    loaded = load(results, Tables(root, version), split, strict=strict)
    scored = score(loaded, strict=strict)
    if out_dir is not None:
        write_metrics(Path(out_dir), scored)
    return scored.metrics


def in_order(boxes: BoxColumns, truth: GroundTruth) -> BoxColumns:
    """The boxes of the truth's samples in their order, as the devkit takes them off a file."""
    moved = boxes.of_samples(truth.boxes.sample_tokens)
    return moved[np.argsort(moved.sample, kind="stable")]


def write_metrics(folder: Path, scored: Scored, config: MetricConfig | None = None) -> None:
    """Writes both files in the devkit's form, the summary last.

    Raises:
        OSError: the folder cannot be written, or the disk is full; names the path.
    """
    config = config or MetricConfig()
    details = details_of(scored.metrics, config)
    summary = {
        **summary_of(scored.metrics, config),
        "eval_time": scored.seconds,
        "cfg": config.devkit_form(),
        "meta": dict(scored.loaded.submission.meta),
    }
    write_text_atomically(folder / DETAILS_NAME, json.dumps(details, indent=2))
    write_text_atomically(folder / SUMMARY_NAME, json.dumps(summary, indent=2))


def summary_of(metrics: DetectionMetrics, config: MetricConfig) -> dict[str, Any]:
    """The figures of ``metrics_summary.json``, without time, settings and meta."""
    errors = dict(zip(ERROR_NAMES, metrics.errors.values, strict=True))
    return {
        "label_aps": {
            found.name: dict(zip(map(str, config.distances_m), found.precisions, strict=True))
            for found in metrics.classes
        },
        "mean_dist_aps": {found.name: found.average_precision for found in metrics.classes},
        "mean_ap": metrics.mean_average_precision,
        "label_tp_errors": {
            found.name: dict(zip(ERROR_NAMES, found.errors.values, strict=True))
            for found in metrics.classes
        },
        "tp_errors": errors,
        "tp_scores": {name: max(0.0, 1.0 - error) for name, error in errors.items()},
        "nd_score": metrics.nds,
    }


def details_of(
    metrics: DetectionMetrics, config: MetricConfig
) -> dict[str, Mapping[str, list[float]]]:
    """The curves of ``metrics_details.json``, by "class:distance"."""
    return {
        f"{found.name}:{distance}": _curve_lists(curve)
        for found in metrics.classes
        for distance, curve in zip(config.distances_m, found.curves, strict=True)
    }


def _curve_lists(curve: Curve) -> Mapping[str, list[float]]:
    error = dict(zip(ERROR_NAMES, curve.errors, strict=True))
    # the devkit's order, which is not that of the summary
    columns = {
        "recall": curve.recall,
        "precision": curve.precision,
        "confidence": curve.confidence,
        **{name: error[name] for name in ("trans_err", "vel_err", "scale_err")},
        **{name: error[name] for name in ("orient_err", "attr_err")},
    }
    return {name: values.tolist() for name, values in columns.items()}


def _check_samples(
    found: NDArray[np.str_],
    truth: GroundTruth,
    split: str | Sequence[str],
    tables: Tables,
    *,
    exact: bool,
) -> None:
    named = repr(split) if isinstance(split, str) else f"the scenes {', '.join(split)}"
    wanted = truth.boxes.sample_tokens.tolist()
    there = set(found.tolist())
    missing = [token for token in wanted if token not in there]
    if len(missing) == len(wanted) and there:
        known = there & set(map(str, tables.samples.token))
        whose = (
            "samples of other scenes"
            if known
            else f"samples that {tables.version} does not hold: it was made for another version"
        )
        raise ValueError(
            f"results must hold the {len(wanted)} samples of {named}; got {len(there)} others, "
            f"such as {', '.join(sorted(there)[:3])}: {whose}"
        )
    if missing:
        raise ValueError(
            f"results must hold every one of the {len(wanted)} samples of {named}; got none for "
            f"{len(missing)}, such as {', '.join(missing[:3])}: predict the whole split, or "
            "score the scenes you have"
        )
    extra = sorted(there - set(wanted)) if exact else []
    if extra:
        raise ValueError(
            f"results must hold the samples of {named} and no others; got {len(extra)} others, "
            f"such as {', '.join(extra[:3])}: they are of another split or version"
        )
