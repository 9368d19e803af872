"""Average of the weights: its formula, and the files that hold it."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bevstack.config import config_from_json
from bevstack.models.build import load_model, save_weights
from bevstack.training.checkpoint import is_checkpoint, read_weights
from bevstack.training.ema import WeightAverage
from tests.small_world import CONFIG, dataset, small_world, with_training
from tests.small_world import train_detector as train


def test_average_by_its_formula():
    model = nn.Linear(2, 3)
    average = WeightAverage(model, 0.3)
    wanted = model.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            model.weight.add_(torch.full((3, 2), float(step)))
        average.update(model, step)
        keep = min(0.3, (1 + step) / (10 + step))  # 2/11, 3/12, then 0.3
        wanted = keep * wanted + (1 - keep) * model.weight.detach()
        torch.testing.assert_close(average.tensors["weight"], wanted)
    assert average.tensors.keys() == {"weight", "bias"}
    assert not torch.equal(average.tensors["weight"], model.weight)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


def test_the_average_is_kept_and_does_not_affect_training(root, tmp_path):
    plain = train(with_training(num_steps=4), dataset(root), tmp_path / "plain")
    averaged = train(with_training(num_steps=4, ema_decay=0.5), dataset(root), tmp_path / "ema")
    last = "checkpoint_0000004.safetensors"
    states = [load_file(tmp_path / name / last) for name in ("plain", "ema")]
    trained = {k: v for k, v in states[0].items() if k.startswith("model.")}
    assert all(torch.equal(states[1][key], value) for key, value in trained.items())
    weights = load_file(averaged.weights)
    assert all(torch.equal(states[1][f"average.{n}"], w) for n, w in weights.items())
    assert any(not torch.equal(weights[n], w) for n, w in load_file(plain.weights).items())
    model, config = load_model(averaged.weights)
    assert config.training.ema_decay == 0.5
    assert dataclasses.replace(config, training=CONFIG.training) == CONFIG
    assert not model.training


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_weights_of_a_checkpoint_are_those_that_its_run_keeps(root, tmp_path, decay):
    kept = train(with_training(num_steps=4, ema_decay=decay), dataset(root), tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint_0000004.safetensors"
    assert is_checkpoint(checkpoint)
    assert not is_checkpoint(kept.weights)
    weights, text, position = read_weights(checkpoint)
    config = config_from_json(text)
    assert position.steps_done == 4
    save_weights(tmp_path / "again.safetensors", weights, config)
    again, wanted = load_file(tmp_path / "again.safetensors"), load_file(kept.weights)
    assert again.keys() == wanted.keys()
    assert all(torch.equal(again[name], wanted[name]) for name in wanted)
    assert load_model(tmp_path / "again.safetensors")[1] == load_model(kept.weights)[1]
    with pytest.raises(ValueError, match="must be a bevstack-checkpoint-1"):
        read_weights(kept.weights)
