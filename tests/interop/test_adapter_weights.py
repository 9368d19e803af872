"""Checkpoints of our model within mmdetection3d become our weights again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bevstack.cli.main import main
from bevstack.interop.adapter_weights import PREFIX
from bevstack.models.build import build_model, load_model
from tests.models.small_models import randomise
from tests.small_world import CONFIG


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint as mmengine's runner writes it, with moving averages."""
    torch.manual_seed(0)
    model = randomise(build_model(CONFIG))
    tensors = {PREFIX + name: value for name, value in model.state_dict().items()}
    averaged = {f"module.{name}": value + 1 for name, value in tensors.items()}
    content = {
        "meta": {"epoch": 1, "mmengine_version": "0.10.7", "cfg": "model = dict()"},
        "state_dict": tensors,
        "ema_state_dict": {"steps": torch.tensor(3), **averaged},
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save(content, tmp_path / "epoch_1.pth")
    (tmp_path / "small.py").write_text("from tests.small_world import CONFIG\n", encoding="utf-8")
    return tmp_path / "epoch_1.pth"


def convert(checkpoint: Path, *options: str) -> int:
    out = checkpoint.with_suffix(".safetensors")
    config = str(checkpoint.with_name("small.py"))
    words = ("convert-weights", str(checkpoint), "--out", str(out), "--config", config, *options)
    return main(words)


@pytest.mark.parametrize(("use", "step"), [("raw", 0.0), ("averaged", 1.0)])
def test_a_checkpoint_becomes_a_bevstack_file(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], use: str, step: float
) -> None:
    assert convert(checkpoint, "--use", use) == 0
    assert "our own convention" in capsys.readouterr().out
    model, config = load_model(checkpoint.with_suffix(".safetensors"))
    assert config == CONFIG
    torch.manual_seed(0)
    for name, value in randomise(build_model(CONFIG)).state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value + int(step), rtol=0, atol=0)


def test_a_box_convention_and_other_tensors_are_refused(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(checkpoint, "--use", "raw", "--boxes", "modern") == 2
    assert "--boxes must not be given" in capsys.readouterr().err
    content = torch.load(checkpoint, weights_only=True)
    del content["ema_state_dict"]
    content["state_dict"][PREFIX + "extra"] = torch.zeros(2)
    torch.save(content, checkpoint)
    assert convert(checkpoint) == 2
    assert "1 left over: detector.extra" in capsys.readouterr().err
    assert convert(checkpoint, "--allow-left-over", "detector.extra") == 0
