"""Plots of the logs of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.json_files import expect_field

if TYPE_CHECKING:
    from bevstack.config.training import TrainingConfig

TERM = "loss/"
MAX_PARTS = 6  # curves beside the total; smaller parts are summed into one
REMAINING = "remaining parts"


def write_learning_curve(log: Path, path: Path, recipe: TrainingConfig | None = None) -> None:
    """Plot the total loss of a training log and its parts, summed over decoder layers.

    Args:
        log: the log of steps.
        path: the picture.
        recipe: the training's section of the configuration, to mark where its second stage begins.

    Raises:
        OSError: ``path`` cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    from bevstack.render.files import write_picture
    from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
    from bevstack.training.jsonl import read_jsonl

    entries = read_jsonl(log)
    sums = [
        sum_parts({k.removeprefix(TERM): v for k, v in entry.items() if k.startswith(TERM)})
        for entry in entries
    ]
    curves = {
        "total": [expect_field(f"log {log}", entry, "loss") for entry in entries],
        **_limit_parts(sums),
    }
    style = CurveStyle(title="training loss, all decoder layers")
    picture = draw_learning_curve(_steps(entries), curves, style, training_stages(recipe))
    write_picture(path, picture)


def write_score_curve(
    evaluations: Path, path: Path, figures: Mapping[str, str], recipe: TrainingConfig | None = None
) -> bool:
    """Plot figures of the held-out samples over training; return False without evaluations.

    Args:
        evaluations: the log of evaluations.
        path: the picture.
        figures: their names in the log, by the name to show.
        recipe: the training's section of the configuration, to mark where its second stage begins.

    Raises:
        OSError: ``path`` cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    from bevstack.render.files import write_picture
    from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
    from bevstack.training.jsonl import read_jsonl

    entries = read_jsonl(evaluations)
    if not entries:
        return False
    curves = {
        shown: [expect_field(f"log {evaluations}", entry, name) for entry in entries]
        for shown, name in figures.items()
    }
    style = CurveStyle(title="held-out scenes", y_label="score", smoothing=1, joined=True)
    picture = draw_learning_curve(_steps(entries), curves, style, training_stages(recipe))
    write_picture(path, picture)
    return True


def training_stages(recipe: TrainingConfig | None) -> list[tuple[float, str]]:
    """Return the first step and the name of the second stage; none if there is one stage."""
    if recipe is None or not 0 < recipe.perspective_steps < recipe.num_steps:
        return []
    first = recipe.perspective_steps + 1
    return [(first, f"from step {first}: whole model")]


def sum_parts(terms: Mapping[str, float]) -> dict[str, float]:
    """Sum loss terms by part: each part over all decoder layers, and the perspective head."""
    sums: dict[str, float] = {}
    for name, value in terms.items():
        part = "perspective" if name.startswith("perspective_") else name.rpartition("_")[0]
        sums[part] = sums.get(part, 0.0) + value
    return sums


def _limit_parts(sums: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return a curve for each part; if there are more than ``MAX_PARTS``, sum the smallest."""
    parts = sorted({part for step_sums in sums for part in step_sums})
    if len(parts) <= MAX_PARTS:
        return {part: [step_sums.get(part, math.nan) for step_sums in sums] for part in parts}

    def size(part: str) -> float:
        values = [abs(step_sums[part]) for step_sums in sums if part in step_sums]
        return sum(value for value in values if math.isfinite(value))

    largest = sorted(sorted(parts, key=size, reverse=True)[: MAX_PARTS - 1])
    curves = {part: [step_sums.get(part, math.nan) for step_sums in sums] for part in largest}
    curves[REMAINING] = [
        sum(value for part, value in step_sums.items() if part not in largest) for step_sums in sums
    ]
    return curves


def _steps(entries: Sequence[Mapping[str, float]]) -> list[float]:
    return [entry["step"] for entry in entries]
