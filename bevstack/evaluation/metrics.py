"""The figures of the nuScenes detection metric, and the table they are usually shown in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The five true-positive errors: (name in metrics_summary.json, name in print).
ERRORS = (
    ("trans_err", "ATE"),
    ("scale_err", "ASE"),
    ("orient_err", "AOE"),
    ("vel_err", "AVE"),
    ("attr_err", "AAE"),
)


@dataclass(frozen=True)
class TruePositiveErrors:
    """Mean errors of matched boxes: 1 where nothing matched, NaN where a class has none."""

    translation_m: float
    scale: float  # 1 - IoU of the aligned boxes
    orientation_rad: float
    velocity_mps: float
    attribute: float  # share of wrong attributes

    @property
    def values(self) -> tuple[float, ...]:
        """In the order of ``ERRORS``."""
        return (
            self.translation_m,
            self.scale,
            self.orientation_rad,
            self.velocity_mps,
            self.attribute,
        )


@dataclass(frozen=True)
class ClassMetrics:
    """One class: AP averaged over the four distances, and its errors."""

    name: str
    average_precision: float  # 0 to 1
    errors: TruePositiveErrors


@dataclass(frozen=True)
class DetectionMetrics:
    """NDS, mAP, the mean errors, and every class (nuScenes, arXiv 1903.11027, section 3.1)."""

    nds: float  # 0 to 1
    mean_average_precision: float  # 0 to 1; a class without true boxes counts as 0
    errors: TruePositiveErrors
    classes: tuple[ClassMetrics, ...]

    @staticmethod
    def from_summary(summary: Mapping[str, Any]) -> DetectionMetrics:
        """The figures of a ``metrics_summary.json``.

        Raises:
            ValueError: a figure that is not there.
        """
        try:
            by_class = summary["mean_dist_aps"]
            class_errors = summary["label_tp_errors"]
            return DetectionMetrics(
                nds=float(summary["nd_score"]),
                mean_average_precision=float(summary["mean_ap"]),
                errors=_errors(summary["tp_errors"]),
                classes=tuple(
                    ClassMetrics(name, float(ap), _errors(class_errors[name]))
                    for name, ap in by_class.items()
                ),
            )
        except KeyError as error:
            raise ValueError(
                f"metrics summary must hold the figures of the detection metric; got no {error}"
            ) from None


def format_table(
    rows: Sequence[tuple[str, DetectionMetrics]],
    *,
    per_class: bool = False,
) -> str:
    """Names and figures as aligned text, one row each; optionally each one's classes below it.

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
        for found in metrics.classes:
            figures = (found.average_precision, *found.errors.values)
            classes.append((found.name, *map(_figure, figures)))
        tables.append(_aligned(classes))
    return "\n\n".join(tables)


def _errors(values: Mapping[str, float]) -> TruePositiveErrors:
    return TruePositiveErrors(*(float(values[name]) for name, _ in ERRORS))


def _figure(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"  # NaN: the class has no such error


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
