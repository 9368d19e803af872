"""Weights of one part of a file that do not fit its model are refused, not left to torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bevstack.models.weights import read_safetensors, write_safetensors
from bevstack.runtime.loading import load, load_tasks
from tests.runtime.traffic_weights import write_both

NAME = "tasks.traffic.regions.extra"


def drop(weights: dict[str, Tensor]) -> None:
    del weights[max(weights)]


def reshape(weights: dict[str, Tensor]) -> None:
    name = max(weights)
    weights[name] = torch.ones((*weights[name].shape, 2))


def retype(weights: dict[str, Tensor]) -> None:
    weights[max(weights)] = weights[max(weights)].to(torch.int32)


def add(weights: dict[str, Tensor]) -> None:
    weights[NAME] = torch.ones(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "the task 'traffic' of the file, which lacks "),
        (reshape, "the task 'traffic' of the file, which has other sizes of "),
        (add, "the task 'traffic' of the file, which also has regions.extra"),
        (retype, "weights must be float32, float16 or bfloat16; got int32 in "),
    ],
)
def test_weights_of_a_further_task_must_fit_its_model(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    path = write_both(tmp_path / "both.safetensors")
    weights, metadata = read_safetensors(path)
    assert max(weights).startswith("tasks.traffic.")
    change(weights)
    write_safetensors(path, weights, metadata)
    for loader in (load, load_tasks):
        with pytest.raises(ValueError, match=message):
            loader(path)


def test_half_precision_of_every_task_is_widened(tmp_path: Path) -> None:
    path = write_both(tmp_path / "both.safetensors")
    weights, metadata = read_safetensors(path)
    halves = {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}
    write_safetensors(path, halves, metadata)
    predictor = load(path).further["traffic"]
    found = predictor.model.state_dict()  # type: ignore[attr-defined]
    assert {value.dtype for value in found.values()} <= {torch.float32, torch.int64}
    for name, value in found.items():
        half = halves.get(f"tasks.traffic.{name}", halves.get(name))
        assert half is not None and torch.equal(value, half.to(value.dtype))
