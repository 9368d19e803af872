"""Command lines for TensorRT, on a stand-in for it that computes on the CPU."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from bevstack.cli.main import main
from bevstack.export import runtimes, tensorrt_file
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from tests.export import fake_tensorrt
from tests.small_world import CONFIG, SPEC, small_world

HALF = ["--backend", "tensorrt-fp16"]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the programs a GPU and TensorRT, which compute on the CPU."""
    find = runtimes.find_spec
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.module())
    monkeypatch.setattr(runtimes, "find_spec", lambda n: True if n == "tensorrt" else find(n))
    monkeypatch.setattr(runtimes, "has_gpu", lambda: True)
    file = functools.partial(tensorrt_file.TensorRtFile, device=torch.device("cpu"))
    monkeypatch.setattr(tensorrt_file, "TensorRtFile", file)


def test_half_precision_is_not_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--verify", "m.onnx", "--weights", "w", *HALF]) == 2
    assert "--verify must compare float32; got tensorrt-fp16" in capsys.readouterr().err


def test_the_node_takes_no_cpu_for_tensorrt(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["node", "--model", "m.onnx", "--bag", "d.mcap", "--sync", *HALF, "--device", "cpu"]
    assert main(words) == 2
    assert "--model must be given with --device cuda" in capsys.readouterr().err


@pytest.mark.slow
def test_a_detector_is_verified_and_predicts_in_tensorrt(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, weights = str(tmp_path / "m.onnx"), str(tmp_path / "w.safetensors")
    save_model(tmp_path / "w.safetensors", build(CONFIG).model, CONFIG)
    with monkeypatch.context() as without_gpu:
        without_gpu.setattr(runtimes, "has_gpu", lambda: False)
        assert main(["export", "--onnx", model, "--weights", weights]) == 0
    capsys.readouterr()
    words = ["--backend", "tensorrt"]
    assert main(["export", "--verify", model, "--weights", weights, *words]) == 0
    assert "boxes of 5 cases equal ours in tensorrt 11.4" in capsys.readouterr().out
    root, found = small_world(tmp_path_factory), {}
    for backend in ("onnxruntime", "tensorrt", "tensorrt-fp16"):
        out = tmp_path / f"{backend}.json"
        given = ["--nuscenes", str(root), "--version", SPEC.version, "--out", str(out)]
        given += ["--split", "synth_val"]
        assert main(["predict", "--model", model, "--backend", backend, *given]) == 0
        found[backend] = json.loads(out.read_text("utf-8"))["results"]
    counts = {name: sum(map(len, results.values())) for name, results in found.items()}
    assert counts["tensorrt"] == counts["onnxruntime"] > 0
    assert found["tensorrt-fp16"].keys() == found["tensorrt"].keys()
