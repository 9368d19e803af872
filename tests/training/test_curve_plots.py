"""Curves of a training's logs: parts, stages, and a training that ends well without matplotlib."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.config import TrainingConfig
from bevstack.render import learning_curve
from bevstack.training import curve_plots
from bevstack.training.curve_plots import (
    training_stages,
    write_learning_curve,
    write_score_curve,
)

RECIPE = dataclasses.replace(TrainingConfig(), num_steps=6, perspective_steps=3)


def write_log(path: Path, terms: list[str]) -> Path:
    entries = [
        {"step": s, "loss": 9.0 / s, **{f"loss/{t}": float(len(t)) + s for t in terms}}
        for s in range(1, 7)
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Record the arguments of each drawn curve; draw nothing."""
    calls: list[tuple[object, ...]] = []

    def record(*arguments: object) -> np.ndarray:
        calls.append(arguments)
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr(learning_curve, "draw_learning_curve", record)
    return calls


def test_the_second_stage_is_marked_where_it_begins() -> None:
    assert training_stages(RECIPE) == [(4, "from step 4: whole model")]
    for perspective_steps in (0, 6):
        one = dataclasses.replace(RECIPE, perspective_steps=perspective_steps)
        assert training_stages(one) == []
    assert training_stages(None) == []


def test_parts_are_summed_over_layers_and_the_smallest_into_one(
    tmp_path: Path, drawn: list[tuple[object, ...]]
) -> None:
    log = write_log(tmp_path / "log.jsonl", ["box_0", "box_1", "class_0", "perspective_depth"])
    write_learning_curve(log, tmp_path / "a.png", RECIPE)
    terms = [f"{'x' * n}_0" for n in range(1, 10)]
    write_learning_curve(write_log(tmp_path / "many.jsonl", terms), tmp_path / "b.png")
    (_, few, _, stages), (_, many, _, none) = drawn
    assert list(few) == ["total", "box", "class", "perspective"]  # type: ignore[call-overload]
    assert few["box"][0] == 12.0  # type: ignore[index]
    assert stages == training_stages(RECIPE) and none == []
    assert len(many) <= 7 and "xxxxxxxxx" in many  # type: ignore[arg-type, operator]
    # Names of 3 to 6 letters: the values of step 1 are 3 + 2 letters and "_0", and the step.
    assert many[curve_plots.REMAINING][0] == sum(n + 3 for n in (1, 2, 3, 4))  # type: ignore[index]


def test_curves_are_written_as_pictures(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", ["box_0"])
    write_learning_curve(log, tmp_path / "curve.png", RECIPE)
    assert cv2.imread(str(tmp_path / "curve.png")).shape == (600, 1000, 3)
    assert not write_score_curve(tmp_path / "none.jsonl", tmp_path / "s.png", {"NDS": "nds"})
    assert not (tmp_path / "s.png").exists()


def test_without_matplotlib_a_training_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bevstack.cli.train import _print_result
    from bevstack.training import TrainingResult
    from bevstack.training.progress_bar import make_console

    log = write_log(tmp_path / "log.jsonl", ["box_0"])
    weights = tmp_path / "model.safetensors"
    result = TrainingResult(weights, log, 0, tmp_path / "evaluations.jsonl", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    _print_result(result, RECIPE, tmp_path, make_console(), "nds")
    output = capsys.readouterr().out
    assert "no curve is drawn: plots must have matplotlib; got " in output
    assert "pip install matplotlib" in output and not list(tmp_path.glob("*.png"))
