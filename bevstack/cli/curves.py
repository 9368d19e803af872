"""The learning curve of a training log as a picture."""

from __future__ import annotations

from pathlib import Path


def write_learning_curve(log: Path, path: Path) -> None:
    """Draws the total loss of a training log and its parts, summed over decoder layers."""
    from bevstack.render.files import write_picture
    from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
    from bevstack.training.log import read_log

    entries = read_log(log)
    parts = sorted({_part(key) for key in entries[0] if key.startswith("loss/")})
    curves = {"total": [entry["loss"] for entry in entries]}
    for part in parts:
        keys = [key for key in entries[0] if key.startswith("loss/") and _part(key) == part]
        curves[part] = [sum(entry[key] for key in keys) for entry in entries]
    steps = [entry["step"] for entry in entries]
    style = CurveStyle(title="training loss, all decoder layers")
    write_picture(path, draw_learning_curve(steps, curves, style).pixels)


def _part(key: str) -> str:
    """The part a log key is of: class of loss/class_2."""
    return key.removeprefix("loss/").rpartition("_")[0]
