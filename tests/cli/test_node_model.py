"""``bevstack node --model``: the boxes of a file in each runtime, and options that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'bevstack[export]'")

from bevstack.cli.main import main
from bevstack.models.build import save_model
from tests.export.bags import read_mcap
from tests.runtime.ros.bags import assert_equal_boxes
from tests.runtime.ros.test_exported_model import (  # noqa: F401  fixtures
    bag,
    frames_at_front,
    root,
    weights,
)

NODE = ["node", "--model", "m.onnx", "--bag", "drive.mcap", "--sync"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([*NODE, "--weights", "tiny_cpu_t4"], "--weights must be left out with --model"),
        ([*NODE, "--backend", "tvm"], "backend must be one of onnxruntime, openvino, tensorrt, "),
        (
            [*NODE, "--precision", "bfloat16"],
            "--model must be given with --device cpu and without --precision",
        ),
        (
            [*NODE, "--device", "cuda"],
            "--model must be given with --device cpu and without --precision",
        ),
        ([*NODE, "--no-verify"], "--no-verify must be left out with --model"),
        (["node", "--dds"], "--weights or --model must be given; got neither"),
        (
            ["node", "--dds", "--weights", "w", "--backend", "openvino"],
            "--model must be given with --backend openvino; got none",
        ),
        (["node", "--dds", "--model", "m.onnx"], "no model file m.onnx: check the path"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_node_and_the_stream_of_a_file_give_the_same_boxes(
    root: Path,  # noqa: F811
    bag: Path,  # noqa: F811
    weights,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bevstack.export.runtimes import installed_backends, open_session
    from bevstack.runtime.exported import ExportedDetector

    save_model(tmp_path / "w.safetensors", weights.model, weights.config)
    model = tmp_path / "m.onnx"
    data = ("--nuscenes", str(root), "--version", "v1.0-synth")
    export = ["export", "--onnx", str(model), "--weights", str(tmp_path / "w.safetensors")]
    assert main([*export, "--stream", *data]) == 0
    frames = frames_at_front(root, weights)
    for backend in installed_backends():
        out = tmp_path / f"{backend}.mcap"
        options = ("--model", str(model), "--backend", backend, "--bag", str(bag), "--sync")
        assert main(["node", *options, "--out", str(out)]) == 0
        assert "4 results, 0 skipped" in capsys.readouterr().out
        stream = ExportedDetector(open_session(model, backend)).stream()
        messages = [m.message for m in read_mcap(out) if m.topic == "/bevstack/detections"]
        for frame, message in zip(frames, messages, strict=True):
            assert_equal_boxes(message, stream.step(frame))
        assert stream.reset.name == "NONE"
