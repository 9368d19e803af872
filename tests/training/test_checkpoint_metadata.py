"""A checkpoint whose configuration or position is of another kind is refused by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bevstack.models.weights import DamagedWeightsError, write_safetensors
from bevstack.tasks.detection3d import Detection3D
from bevstack.training.checkpoint import (
    FORMAT,
    RunPosition,
    TrainingState,
    read_weights,
    restore,
)
from bevstack.training.optimizer_step import OptimizerStep
from bevstack.training.processes import Processes
from tests.small_world import CONFIG

STATE = json.dumps({"steps_done": 3})


def write(path: Path, config: str, state: str = STATE) -> Path:
    metadata = {"format": FORMAT, "config": config, "state": state}
    write_safetensors(path, {"model.a": torch.ones(2)}, metadata)
    return path


def test_the_first_checkpoints_stored_only_the_steps(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", '{"training": {"batch_size": 4}}')
    weights, _, position = read_weights(path)
    assert list(weights) == ["a"] and position.samples_seen == 12


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "configuration of .* must be JSON"),
        ("[" * 100_000, "configuration of .* must be JSON; got too many nested"),
        ("[]", r"configuration of .* must be a JSON object; got \[\]"),
        ("{}", "training in the configuration of .* must be a JSON object; got None"),
        ('{"training": {"batch_size": "4"}}', "training.batch_size in .* must be a whole number"),
        ('{"training": {"batch_size": 0}}', "training.batch_size in .* must be from 1 to"),
    ],
)
def test_another_configuration_is_refused(tmp_path: Path, config: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_weights(write(tmp_path / "a.safetensors", config))


def test_another_position_is_refused(tmp_path: Path) -> None:
    changes = (
        *('"steps_done": "x"', '"steps_done": "5"', '"steps_done": 2.5', '"steps_done": -1'),
        *('"steps_done": Infinity', '"steps_done": 3, "epoch": "1"', '"steps_done": 3, "new": 1'),
        *('"steps_done": 3, "elapsed_s": "x"', '"steps_done": 3, "samples_seen": null'),
    )
    for state in ("[]", "{}", "[" * 100_000, *(f"{{{change}}}" for change in changes)):
        path = write(tmp_path / "a.safetensors", '{"training": {"batch_size": 4}}', state)
        with pytest.raises(ValueError, match="must hold the position of its run"):
            read_weights(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x.exp_avg", torch.ones(2), "must be named by the number of one of .* got 'x.exp_avg'"),
        ("99999.exp_avg", torch.ones(2), "must be named by the number of one of"),
        ("0", torch.ones(2), "must be named by the number of one of"),
        ("0.exp_avg", torch.ones(1, 2, 3, 4, 5), "0.exp_avg' of a checkpoint must have the shape"),
    ],
)
def test_a_value_of_no_parameter_is_refused(key: str, value: torch.Tensor, message: str) -> None:
    step = OptimizerStep(Detection3D(CONFIG), Processes())
    position = RunPosition(steps_done=1, samples_seen=2, elapsed_s=0.0)
    state = TrainingState(
        position=position, model=step.model.state_dict(), optimizer={key: value}, average={}
    )
    with pytest.raises(DamagedWeightsError, match=message):
        restore(step, state)
