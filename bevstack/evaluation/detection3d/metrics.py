"""Results of the nuScenes detection metric, and their usual table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES, Curve

# The five true-positive errors: (name in metrics_summary.json, name in print).
ERRORS = tuple(zip(ERROR_NAMES, ("ATE", "ASE", "AOE", "AVE", "AAE"), strict=True))

# Errors that are not defined for a class: a cone has no heading, and neither class moves.
MISSING_ERRORS = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}


@dataclass(frozen=True)
class TruePositiveErrors:
    """Mean errors of matched boxes: 1 without matches, NaN if not defined for the class."""

    translation_m: float
    scale: float  # 1 - IoU of the aligned boxes
    orientation_rad: float
    velocity_mps: float
    attribute: float  # share of wrong attributes

    @property
    def values(self) -> tuple[float, ...]:
        """Return the errors in the order of ``ERRORS``."""
        return (
            self.translation_m,
            self.scale,
            self.orientation_rad,
            self.velocity_mps,
            self.attribute,
        )


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class: AP averaged over the matching distances, and the mean errors."""

    name: str
    average_precision: float  # 0 to 1
    errors: TruePositiveErrors
    precisions: tuple[float, ...] = ()  # AP at each distance
    curves: tuple[Curve, ...] = field(default=(), compare=False, repr=False)  # at each distance


@dataclass(frozen=True)
class DetectionMetrics:
    """NDS, mAP, mean errors and the metrics of each class.

    nuScenes, arXiv 1903.11027, section 3.1.
    """

    nds: float  # 0 to 1
    mean_average_precision: float  # 0 to 1; a class without true boxes counts as 0
    errors: TruePositiveErrors
    classes: tuple[ClassMetrics, ...]
    no_predictions: bool = False  # there was no predicted box to score

    def figures(self) -> dict[str, float]:
        """Return all figures by name, as a line of a training's log of evaluations holds them."""
        figures = {"nds": self.nds, "map": self.mean_average_precision}
        errors = zip(ERRORS, self.errors.values, strict=True)
        figures |= {f"m{printed.lower()}": value for (_, printed), value in errors}
        return figures | {f"ap/{c.name}": c.average_precision for c in self.classes}

    @staticmethod
    def from_summary(summary: Mapping[str, Any]) -> DetectionMetrics:
        """Read the metrics from the content of a ``metrics_summary.json``.

        Raises:
            ValueError: a figure is missing.
        """
        try:
            by_class = summary["mean_dist_aps"]
            class_errors = summary["label_tp_errors"]
            return DetectionMetrics(
                nds=float(summary["nd_score"]),
                mean_average_precision=float(summary["mean_ap"]),
                errors=_errors(summary["tp_errors"]),
                classes=tuple(
                    ClassMetrics(
                        name,
                        float(ap),
                        _errors(class_errors[name]),
                        tuple(map(float, summary.get("label_aps", {}).get(name, {}).values())),
                    )
                    for name, ap in by_class.items()
                ),
            )
        except KeyError as error:
            raise ValueError(
                f"metrics summary must hold the figures of the detection metric; got no {error}"
            ) from None


def summarise(
    curves: Mapping[str, Sequence[Curve]],
    config: MetricConfig,
    *,
    no_predictions: bool = False,
) -> DetectionMetrics:
    """Compute the metrics from the curves of every class at every distance."""
    classes = tuple(_class_metrics(name, curves[name], config) for name in config.class_names)
    mean_ap = float(np.mean([metrics.average_precision for metrics in classes]))
    class_errors = [metrics.errors.values for metrics in classes]
    errors = [float(np.nanmean(values)) for values in zip(*class_errors, strict=True)]
    scores = [max(0.0, 1.0 - error) for error in errors]
    total = float(config.mean_ap_weight * mean_ap + np.sum(scores))
    return DetectionMetrics(
        nds=total / float(config.mean_ap_weight + len(scores)),
        mean_average_precision=mean_ap,
        errors=TruePositiveErrors(*errors),
        classes=classes,
        no_predictions=no_predictions,
    )


def _class_metrics(name: str, curves: Sequence[Curve], config: MetricConfig) -> ClassMetrics:
    """Compute the metrics of one class from its curves."""
    precisions = tuple(c.average_precision(config.min_recall, config.min_precision) for c in curves)
    errors = curves[config.distances_m.index(config.error_distance_m)].mean_errors(
        config.min_recall
    )
    missing = MISSING_ERRORS.get(name, ())
    kept = [float(np.nan) if e in missing else v for e, v in zip(ERROR_NAMES, errors, strict=True)]
    return ClassMetrics(
        name=name,
        average_precision=float(np.mean(precisions)),
        errors=TruePositiveErrors(*kept),
        precisions=precisions,
        curves=tuple(curves),
    )


def format_table(
    rows: Sequence[tuple[str, DetectionMetrics]],
    *,
    per_class: bool = False,
) -> str:
    """Format metrics as aligned text, one row for each name; optionally with a table of classes.

    Columns: NDS and mAP (higher is better), then the mean errors (lower is better).
    """
    header = ("", "NDS", "mAP", *(f"m{short}" for _, short in ERRORS))
    lines = [header]
    for name, metrics in rows:
        figures = (metrics.nds, metrics.mean_average_precision, *metrics.errors.values)
        lines.append((name, *map(_figure, figures)))
    text = _aligned(lines)
    if not per_class:
        return text
    tables = [text]
    for name, metrics in rows:
        classes = [(name, "AP", *(short for _, short in ERRORS))]
        for class_metrics in metrics.classes:
            figures = (class_metrics.average_precision, *class_metrics.errors.values)
            classes.append((class_metrics.name, *map(_figure, figures)))
        tables.append(_aligned(classes))
    return "\n\n".join(tables)


def _errors(values: Mapping[str, float]) -> TruePositiveErrors:
    """Read the five errors from their names in ``metrics_summary.json``."""
    return TruePositiveErrors(*(float(values[name]) for name, _ in ERRORS))


def _figure(value: float) -> str:
    """Format a figure; a dash for NaN."""
    return "-" if value != value else f"{value:.4f}"  # NaN: not defined for the class


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """Align the cells of a table: the first column left, the remaining ones right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
