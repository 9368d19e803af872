"""Plots of the logs of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

TERM = "loss/"


def write_learning_curve(log: Path, path: Path) -> None:
    """Plot the total loss of a training log and its parts, summed over decoder layers.

    Raises:
        OSError: ``path`` cannot be written.
    """
    from bevstack.render.files import write_picture
    from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
    from bevstack.training.jsonl import read_jsonl

    entries = read_jsonl(log)
    sums = [
        sum_parts({k.removeprefix(TERM): v for k, v in entry.items() if k.startswith(TERM)})
        for entry in entries
    ]
    curves = {"total": [entry["loss"] for entry in entries]}
    for part in sorted({part for step_sums in sums for part in step_sums}):
        curves[part] = [step_sums.get(part, math.nan) for step_sums in sums]
    style = CurveStyle(title="training loss, all decoder layers")
    write_picture(path, draw_learning_curve(_steps(entries), curves, style).pixels)


def write_score_curve(evaluations: Path, path: Path, figures: Mapping[str, str]) -> bool:
    """Plot figures of the held-out samples over training; return False without evaluations.

    Args:
        evaluations: the log of evaluations.
        path: the picture.
        figures: their names in the log, by the name to show.

    Raises:
        OSError: ``path`` cannot be written.
    """
    from bevstack.render.files import write_picture
    from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
    from bevstack.training.jsonl import read_jsonl

    entries = read_jsonl(evaluations)
    if not entries:
        return False
    curves = {shown: [entry[name] for entry in entries] for shown, name in figures.items()}
    style = CurveStyle(title="held-out scenes", y_label="score", smoothing=1)
    write_picture(path, draw_learning_curve(_steps(entries), curves, style).pixels)
    return True


def sum_parts(terms: Mapping[str, float]) -> dict[str, float]:
    """Sum loss terms by part: each part over all decoder layers, and the perspective head."""
    sums: dict[str, float] = {}
    for name, value in terms.items():
        part = "perspective" if name.startswith("perspective_") else name.rpartition("_")[0]
        sums[part] = sums.get(part, 0.0) + value
    return sums


def _steps(entries: Sequence[Mapping[str, float]]) -> list[float]:
    return [entry["step"] for entry in entries]
