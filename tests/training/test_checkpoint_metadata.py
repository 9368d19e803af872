"""A checkpoint whose configuration or position is of another kind is refused by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bevstack.models.weights import write_safetensors
from bevstack.training.checkpoint import FORMAT, read_weights

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
