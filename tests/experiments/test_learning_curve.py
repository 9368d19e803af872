"""Learning curve of a run on a small world: checkpoints scored over processor time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.experiments import learning_curve
from bevstack.training.checkpoint import list_checkpoints, read_weights
from tests.small_world import SPEC, dataset, small_world, with_training
from tests.small_world import train_detector as train
from tools import learning_curve as program


def test_every_checkpoint_is_a_point_and_scored_once(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = small_world(tmp_path_factory)
    train(with_training(num_steps=4), dataset(root), tmp_path / "run")
    checkpoints = list_checkpoints(tmp_path / "run")
    assert len(checkpoints) == 2
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--held-out", "synth_val"]
    out = tmp_path / "curve"
    command = [*map(str, reversed(checkpoints)), *where, "--processes", "2", "--out", str(out)]
    assert program.main(command) == 0
    points = json.loads((out / "curve.json").read_text())["points"]
    assert [point["steps"] for point in points] == [2, 4]
    for point, checkpoint in zip(points, checkpoints, strict=True):
        elapsed_s = read_weights(checkpoint)[2].elapsed_s
        assert point["cpu_seconds"] == pytest.approx(2 * elapsed_s)
        assert point["samples"] == 6 and 0 <= point["NDS"] <= 1
    assert (out / "curve.png").stat().st_size > 1000

    def refuse(*_: object) -> None:
        raise AssertionError("a checkpoint was scored again")

    monkeypatch.setattr(learning_curve, "predict_dataset", refuse)
    assert program.main(command) == 0
    for other in (["--processes", "3"], ["--held-out", "synth_train"], ["--max-samples", "3"]):
        with pytest.raises(AssertionError, match="scored again"):  # the point is of other inputs
            program.main([*command, *other])


def test_classes_of_other_categories_are_given_to_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def record(*_: object, classes: Path | None) -> None:
        given.append(classes)

    monkeypatch.setattr(learning_curve, "Tables", record)
    where = ["--nuscenes", "root", "--version", SPEC.version, "--held-out", "synth_val"]
    command = ["none.safetensors", *where, "--processes", "1", "--out", str(tmp_path / "curve")]
    for more in ([], ["--classes", "map.json"]):
        with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
            program.main([*command, *more])
    assert given == [None, Path("map.json")]
