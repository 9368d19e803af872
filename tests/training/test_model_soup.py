"""Average of models: the mean of every value, for models of one configuration."""

from __future__ import annotations

import hashlib
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bevstack.models.build import build_model, load_model, save_model
from bevstack.models.weights import read_safetensors
from bevstack.training.model_soup import average_models
from tests.models.small_models import small_config

PROGRAM = Path(__file__).resolve().parents[2] / "tools" / "average_weights.py"


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Save three models of one configuration with different weights and seeds."""
    paths = []
    for seed in range(3):
        config = small_config()
        config = replace(config, training=replace(config.training, seed=seed))
        torch.manual_seed(seed)
        paths.append(tmp_path / f"{seed}.safetensors")
        model = build_model(config)
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand(buffer.shape))
        save_model(paths[-1], model, config, {"steps": str(seed)})
    return paths


def test_every_value_is_the_mean_over_the_models(models: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "mean.safetensors"
    average_models(models, target)
    mean, config = load_model(target)
    assert config == load_model(models[0])[1]
    states = [load_model(path)[0].state_dict() for path in models]
    for name, value in mean.state_dict().items():
        if value.is_floating_point():
            wanted = torch.stack([state[name].double() for state in states]).mean(0)
            torch.testing.assert_close(value.double(), wanted, rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(value, states[0][name])
    assert any(not torch.equal(value, states[0][name]) for name, value in mean.state_dict().items())
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in models]
    metadata = read_safetensors(target)[1]
    assert metadata["averaged"] == ", ".join(digests) and "steps" not in metadata


def test_wrong_sets_of_sources_are_refused(models: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "mean.safetensors"
    for sources in ([], models[:1], [models[0], models[1], models[0]]):
        with pytest.raises(ValueError, match="sources must be two or more different models; got"):
            average_models(sources, target)
    config = small_config()
    config = replace(config, decoder=replace(config.decoder, num_queries=7))
    other = tmp_path / "other.safetensors"
    save_model(other, build_model(config), config)
    with pytest.raises(ValueError, match=r"other\.safetensors.*num_queries"):
        average_models([models[0], other], target)
    with pytest.raises(FileNotFoundError, match="absent"):
        average_models([models[0], tmp_path / "absent.safetensors"], target)
    assert not target.exists()


def test_the_program_writes_the_mean_or_prints_the_error(
    models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(PROGRAM))["main"]
    by_hand, by_program = tmp_path / "hand.safetensors", tmp_path / "program.safetensors"
    average_models(models[:2], by_hand)
    assert main([str(models[0]), str(models[1]), "--out", str(by_program)]) == 0
    assert by_program.read_bytes() == by_hand.read_bytes()
    assert "the mean of 2 models" in capsys.readouterr().out
    assert main([str(models[0]), "--out", str(by_program)]) == 2
    assert "average_weights: error: sources must be two or more" in capsys.readouterr().err
