"""Scoring of a results file against the tables, and files of metrics in the devkit's form."""

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
from bevstack.tables.classes import Classes
from bevstack.tables.reader import Tables
from bevstack.tables.splits import is_official

SUMMARY_NAME = "metrics_summary.json"
DETAILS_NAME = "metrics_details.json"
SOURCE_KEY = "scored"  # key of the summary for the scored file and samples


class Loaded(NamedTuple):
    """A submission and the ground truth of its samples."""

    submission: Submission  # only the samples of the split
    truth: GroundTruth
    samples: NDArray[np.int64]  # (S,) rows of the truth's samples in the sample table


class Scored(NamedTuple):
    """A loaded submission and its metrics."""

    loaded: Loaded
    metrics: DetectionMetrics
    seconds: float  # time of scoring, without loading


def load(
    results: Path | str | Results,
    tables: Tables,
    split: str | Sequence[str] | None,
    *,
    strict: bool = False,
    only_predicted: bool = False,
) -> Loaded:
    """Read results and ground truth, and check that they have the same samples.

    Results of samples outside the split are ignored. For an official split they are an error, as in
    the devkit.

    Args:
        results: a results file (JSON or columns), or its ``results`` object.
        tables: the version's tables.
        split: an official split, a split of the version's ``splits.json``, or names of scenes.
            None: all samples of the version.
        strict: accept what the devkit accepts; see ``read_submission``.
        only_predicted: leave out samples that the results do not hold. Such scores are not
            comparable with those of the whole split.

    Raises:
        FileNotFoundError: the results file or a table does not exist.
        ValueError: the results are not of the format or lack samples of the split; the split or a
            scene does not exist; the split has no true boxes; or the tables are inconsistent.
    """
    samples = rows_of_samples(tables, split)
    if isinstance(results, (Path, str)):
        submission = read_submission(results, strict=strict)
    else:
        submission = Submission({}, columns_of_results(results, strict=strict))
    exact = split is None or is_official(split)
    predicted = submission.boxes.sample_tokens
    if only_predicted and len(predicted):
        kept = samples[np.isin(np.asarray(tables.samples.token)[samples], predicted)]
        samples = kept if len(kept) else samples  # without any, the check below gives the reason
    truth = ground_truth(tables, samples, strict=strict)
    check_samples(predicted, truth, split, tables, exact=exact)
    boxes = submission.boxes if exact else order_like_truth(submission.boxes, truth)
    return Loaded(Submission(submission.meta, boxes), truth, samples)


def rows_of_samples(
    tables: Tables, split: str | Sequence[str] | None
) -> NDArray[np.int64]:  # (S,) rows of the sample table
    """Return the samples of a split or of scenes; of the whole version for None.

    Raises:
        ValueError: the split or a scene does not exist.
    """
    if split is None:
        return np.arange(len(tables.samples.token))
    return samples_of_split(tables, split)


def score(loaded: Loaded, config: MetricConfig | None = None, *, strict: bool = False) -> Scored:
    """Score a loaded submission, and measure the time; see ``evaluate``.

    Raises:
        ValueError: see ``evaluate``.
    """
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
    classes: Classes | Path | str | None = None,
) -> DetectionMetrics:
    """Score results with the detection metric of nuScenes (``detection_cvpr_2019``).

    Args:
        results: a results file, or its ``results`` object.
        root: the folder that holds the version's folder.
        version: the folder of the 13 tables.
        split: an official split, a split of the version's ``splits.json``, or names of scenes.
        out_dir: folder for ``metrics_summary.json`` and ``metrics_details.json``, in the devkit's
            form; None: nothing is written.
        strict: accept and refuse the same input as the devkit; see ``evaluate``.
        classes: classes of categories that are not nuScenes'; see ``Tables``.

    Raises:
        FileNotFoundError: the results file, root, version or a table does not exist.
        ValueError: see ``load``.
        OSError: the files cannot be written.
    """
    loaded = load(results, Tables(root, version, classes=classes), split, strict=strict)
    scored = score(loaded, strict=strict)
    if out_dir is not None:
        write_metrics(Path(out_dir), scored)
    return scored.metrics


def order_like_truth(boxes: BoxColumns, truth: GroundTruth) -> BoxColumns:
    """Return the boxes of the truth's samples in the truth's order, as the devkit reads them."""
    selected = boxes.select_samples(truth.boxes.sample_tokens)
    return selected[np.argsort(selected.sample, kind="stable")]


def write_metrics(
    folder: Path,
    scored: Scored,
    config: MetricConfig | None = None,
    *,
    source: Mapping[str, object] | None = None,
) -> None:
    """Write both files of metrics in the devkit's form, the summary last.

    Args:
        folder: created if needed.
        scored: the metrics.
        config: settings of the metric; None: ``detection_cvpr_2019``.
        source: the scored file and samples, for the key ``scored`` of the summary, which the devkit
            does not have; None: no such key.

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
        **({} if source is None else {SOURCE_KEY: dict(source)}),
    }
    write_text_atomically(folder / DETAILS_NAME, json.dumps(details, indent=2))
    write_text_atomically(folder / SUMMARY_NAME, json.dumps(summary, indent=2))


def summary_of(metrics: DetectionMetrics, config: MetricConfig) -> dict[str, Any]:
    """Return the content of ``metrics_summary.json``, without time, settings and meta."""
    errors = dict(zip(ERROR_NAMES, metrics.errors.values, strict=True))
    return {
        "label_aps": {
            class_metrics.name: dict(
                zip(map(str, config.distances_m), class_metrics.precisions, strict=True)
            )
            for class_metrics in metrics.classes
        },
        "mean_dist_aps": {
            class_metrics.name: class_metrics.average_precision for class_metrics in metrics.classes
        },
        "mean_ap": metrics.mean_average_precision,
        "label_tp_errors": {
            class_metrics.name: dict(zip(ERROR_NAMES, class_metrics.errors.values, strict=True))
            for class_metrics in metrics.classes
        },
        "tp_errors": errors,
        "tp_scores": {name: max(0.0, 1.0 - error) for name, error in errors.items()},
        "nd_score": metrics.nds,
    }


def details_of(
    metrics: DetectionMetrics, config: MetricConfig
) -> dict[str, Mapping[str, list[float]]]:
    """Return the curves of ``metrics_details.json``, by "class:distance"."""
    return {
        f"{class_metrics.name}:{distance}": _curve_lists(curve)
        for class_metrics in metrics.classes
        for distance, curve in zip(config.distances_m, class_metrics.curves, strict=True)
    }


def _curve_lists(curve: Curve) -> Mapping[str, list[float]]:
    """Return the columns of a curve as lists, in the devkit's order."""
    error = dict(zip(ERROR_NAMES, curve.errors, strict=True))
    # The devkit's order in this file, which differs from that of the summary.
    columns = {
        "recall": curve.recall,
        "precision": curve.precision,
        "confidence": curve.confidence,
        **{name: error[name] for name in ("trans_err", "vel_err", "scale_err")},
        **{name: error[name] for name in ("orient_err", "attr_err")},
    }
    return {name: values.tolist() for name, values in columns.items()}


def check_samples(
    tokens: NDArray[np.str_],
    truth: GroundTruth,
    split: str | Sequence[str] | None,
    tables: Tables,
    *,
    exact: bool,
) -> None:
    """Check that results cover every sample of a split, and only those if ``exact``.

    Raises:
        ValueError: samples are missing, or belong to another split or version.
    """
    if split is None:
        split_name = f"the version {tables.version}"
    else:
        split_name = repr(split) if isinstance(split, str) else f"the scenes {', '.join(split)}"
    required = truth.boxes.sample_tokens.tolist()
    predicted = set(tokens.tolist())
    missing = [token for token in required if token not in predicted]
    if len(missing) == len(required) and predicted:
        known = predicted & set(map(str, tables.samples.token))
        reason = (
            "samples of other scenes"
            if known
            else f"samples that {tables.version} does not hold: it was made for another version"
        )
        raise ValueError(
            f"results must hold the {len(required)} samples of {split_name}; got "
            f"{len(predicted)} different samples, such as {', '.join(sorted(predicted)[:3])}: "
            f"{reason}"
        )
    if missing:
        remedy = _remedy(missing, truth, tables)
        raise ValueError(
            f"results must hold every one of the {len(required)} samples of {split_name}; got none "
            f"for {len(missing)}, such as {', '.join(missing[:3])}: {remedy}"
        )
    extra = sorted(predicted - set(required)) if exact else []
    if extra:
        raise ValueError(
            f"results must hold only the samples of {split_name}; got {len(extra)} more, such as "
            f"{', '.join(extra[:3])}: they belong to another split or version"
        )


def _remedy(missing: Sequence[str], truth: GroundTruth, tables: Tables) -> str:
    """Return the remedy for results of a part of the split, with the scenes that are complete."""
    names = np.asarray(tables.scenes.name)
    absent = {tables.sample_row(token) for token in missing}
    complete: dict[str, bool] = {}
    for token in truth.boxes.sample_tokens.tolist():
        row = tables.sample_row(token)
        name = str(names[tables.samples.scene[row]])
        complete[name] = complete.get(name, True) and row not in absent
    scenes = [name for name, whole in complete.items() if whole]
    options = "".join(f" --scene {name}" for name in scenes[:3]) + " ..." * (len(scenes) > 3)
    part = f"score the scenes that are complete with{options}, or" if scenes else "score"
    return f"predict the whole split, {part} the predicted samples alone with --only-predicted"
