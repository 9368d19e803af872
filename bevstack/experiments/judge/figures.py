"""From results to the figures of one row of the table."""

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

RECALL_WITHIN_M = 2.0  # matching distance of the errors
Figures = dict[str, Any]


def compute_figures(results: Path, tables: Tables, scenes: Sequence[str]) -> Figures:
    """Score a results file: overall, by class, and by conditions.

    Raises:
        ValueError: see ``load``.
        FileNotFoundError: the results file does not exist.
    """
    scored = score(load(results, tables, scenes))
    boxes, truth = scored.loaded.submission.boxes, scored.loaded.truth
    conditions = read_conditions(tables, scored.loaded.samples)
    groups = break_down(boxes, truth, conditions)
    return {
        **overall(scored.metrics),
        "boxes": len(boxes),
        "classes": {
            class_metrics.name: {
                "AP": class_metrics.average_precision,
                **_errors(class_metrics.errors),
            }
            for class_metrics in scored.metrics.classes
        },
        "groups": {f"{g.family}/{g.name}": _group_figures(g) for g in groups if g.num_truth},
    }


def overall(metrics: DetectionMetrics) -> Figures:
    """Return NDS, mAP and the mean errors."""
    return {
        "NDS": metrics.nds,
        "mAP": metrics.mean_average_precision,
        **{f"m{name}": value for name, value in _errors(metrics.errors).items()},
    }


def official_figures(results: Path, tables: Tables, scenes: Sequence[str]) -> Figures:
    """Return NDS, mAP and mean errors computed by nuscenes-devkit's own code.

    Raises:
        ImportError: nuscenes-devkit is not installed.
    """
    metrics = evaluate_with_devkit(results, tables.root, tables.version, list(scenes))
    return overall(metrics)


def without_nan(value: Any) -> Any:
    """Return the value with None for every number that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _group_figures(group: GroupMetrics) -> Figures:
    """Return mAP, recall within 2 m (over the classes present) and errors of one group."""
    distance = MetricConfig().distances_m.index(RECALL_WITHIN_M)
    recalls = [metrics.curves[distance].max_recall_index / 100 for metrics in group.classes]
    return {
        "truth": group.num_truth,
        "mAP": group.mean_average_precision,
        "recall": float(np.mean(recalls)) if recalls else float("nan"),
        **{f"m{name}": value for name, value in _errors(group.errors).items()},
    }


def _errors(errors: TruePositiveErrors) -> dict[str, float]:
    """Return the errors by their short names."""
    return {short: value for (_, short), value in zip(ERRORS, errors.values, strict=True)}
