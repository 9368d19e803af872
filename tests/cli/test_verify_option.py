"""The option ``--no-verify``, and the notes on weights that the verbs print."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from bevstack.cli.main import build_parser, main

ROOT = Path(__file__).resolve().parents[2]
TAKES_WEIGHTS = ("demo", "train", "predict", "judge", "study", "convert-weights")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the packaged weights with one flipped bit."""
    content = bytearray((ROOT / "weights" / "tiny_cpu_t4.safetensors").read_bytes())
    content[3_000_000] ^= 8
    path = tmp_path_factory.mktemp("weights") / "damaged.safetensors"
    path.write_bytes(content)
    return path


def test_every_verb_that_takes_weights_has_the_option() -> None:
    (verbs,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for name in TAKES_WEIGHTS:
        assert "--no-verify" in verbs.choices[name].format_help(), name


def test_damaged_weights_are_one_sentence_unless_the_check_is_left_out(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = str(ROOT / "docs" / "rig_example.json")
    command = ["predict", "--weights", str(damaged), "--rig", rig]
    command += ["--images", str(tmp_path / "none"), "--out", str(tmp_path / "boxes.json")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "must equal the checksum" in error and str(damaged) in error
    assert main([*command, "--no-verify"]) == 2
    assert "folder of images must exist" in capsys.readouterr().err


def test_objects_that_were_left_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"state_dict": {"a": torch.ones(1)}, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "weights.pth")
    command = ["convert-weights", str(tmp_path / "weights.pth"), "--config", "tiny_cpu"]
    assert main([*command, "--out", str(tmp_path / "out.safetensors")]) == 2
    printed = capsys.readouterr()
    assert "objects of other programs were left out, and not run: argparse.Namespace" in printed.out
    assert "must hold a BEVFormer v2 detector" in printed.err
