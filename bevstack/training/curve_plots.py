"""The logs of a training run as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

TERM = "loss/"


def write_learning_curve(log: Path, path: Path) -> None:
    """Draws the total loss of a training log and its parts, summed over decoder layers."""
    from bevstack.render.files import write_picture
    from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
    from bevstack.training.jsonl import read_log

    entries = read_log(log)
    sums = [
        sum_parts({k.removeprefix(TERM): v for k, v in entry.items() if k.startswith(TERM)})
        for entry in entries
    ]
    curves = {"total": [entry["loss"] for entry in entries]}
    for part in sorted({part for of_step in sums for part in of_step}):
        curves[part] = [of_step.get(part, math.nan) for of_step in sums]
    style = CurveStyle(title="training loss, all decoder layers")
    write_picture(path, draw_learning_curve(_steps(entries), curves, style).pixels)


def write_score_curve(evaluations: Path, path: Path) -> bool:
    """Draws NDS and mAP of the held-out scenes over training; says whether there were any."""
    from bevstack.render.files import write_picture
    from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
    from bevstack.training.jsonl import read_log

    entries = read_log(evaluations)
    if not entries:
        return False
    curves = {
        "NDS": [entry["nds"] for entry in entries],
        "mAP": [entry["map"] for entry in entries],
    }
    style = CurveStyle(title="held-out scenes", y_label="score", smoothing=1)
    write_picture(path, draw_learning_curve(_steps(entries), curves, style).pixels)
    return True


def sum_parts(terms: Mapping[str, float]) -> dict[str, float]:
    """Loss terms by what they are of: those of all decoder layers, of the perspective head."""
    sums: dict[str, float] = {}
    for name, value in terms.items():
        part = "perspective" if name.startswith("perspective_") else name.rpartition("_")[0]
        sums[part] = sums.get(part, 0.0) + value
    return sums


def _steps(entries: Sequence[Mapping[str, float]]) -> list[float]:
    return [entry["step"] for entry in entries]
