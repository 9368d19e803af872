"""Results to the figures of one row of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.evaluation.analysis.breakdown import GroupMetrics, break_down
from bevstack.evaluation.analysis.conditions import read_conditions
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import ERRORS, DetectionMetrics, TruePositiveErrors
from bevstack.evaluation.devkit.devkit import evaluate_with_devkit
from bevstack.evaluation.scoring import load, score
from bevstack.tables.reader import Tables

RECALL_WITHIN_M = 2.0  # as the errors are measured
Figures = dict[str, Any]


def figures_of(results: Path, tables: Tables, scenes: Sequence[str]) -> Figures:
    """Scores of a results file: overall, by class, and by conditions."""
    scored = score(load(results, tables, scenes))
    boxes, truth = scored.loaded.submission.boxes, scored.loaded.truth
    conditions = read_conditions(tables, scored.loaded.samples)
    groups = break_down(boxes, truth, conditions)
    return {
        **overall(scored.metrics),
        "boxes": len(boxes),
        "classes": {
            found.name: {"AP": found.average_precision, **_errors(found.errors)}
            for found in scored.metrics.classes
        },
        "groups": {f"{g.family}/{g.name}": _of_group(g) for g in groups if g.num_truth},
    }


def overall(metrics: DetectionMetrics) -> Figures:
    """NDS, mAP and the mean errors."""
    return {
        "NDS": metrics.nds,
        "mAP": metrics.mean_average_precision,
        **{f"m{name}": value for name, value in _errors(metrics.errors).items()},
    }


def official_figures(results: Path, tables: Tables, scenes: Sequence[str]) -> Figures:
    """NDS, mAP and mean errors of nuscenes-devkit's own code."""
    metrics = evaluate_with_devkit(results, tables.root, tables.version, list(scenes))
    return overall(metrics)


def without_nan(value: Any) -> Any:
    """The same with None for what is no number, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _of_group(group: GroupMetrics) -> Figures:
    """mAP, recall within 2 m (over the classes present) and errors of some of the boxes."""
    at = MetricConfig().distances_m.index(RECALL_WITHIN_M)
    recalls = [found.curves[at].max_recall_index / 100 for found in group.classes]
    return {
        "truth": group.num_truth,
        "mAP": group.mean_average_precision,
        "recall": float(np.mean(recalls)) if recalls else float("nan"),
        **{f"m{name}": value for name, value in _errors(group.errors).items()},
    }


def _errors(errors: TruePositiveErrors) -> dict[str, float]:
    return {short: value for (_, short), value in zip(ERRORS, errors.values, strict=True)}
