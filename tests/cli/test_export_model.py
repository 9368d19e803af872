"""Options for models of ``bevstack export`` and ``bevstack predict``: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from bevstack.cli.main import main

EXPORT = ["export", "--onnx", "m.onnx", "--weights", "tiny_cpu_t4"]
VERIFY = ["export", "--verify", "m.onnx", "--weights", "tiny_cpu_t4"]
INT8 = ["export", "--int8", "8.onnx", "--model", "m.onnx", "--nuscenes", "root", "--version", "v"]
PREDICT = ["predict", "--model", "m.onnx", "--rig", "rig.json", "--images", ".", "--out", "r.json"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export"], "--format, --onnx, --verify or --int8 must be given"),
        (["export", "--format", "osi"], "--results must be given with --format; got none"),
        (["export", "--format", "osi", "--stream"], "--results must be given with --format"),
        (
            [*EXPORT, "--verify", "m.onnx"],
            "one of --onnx, --verify and --int8 must be given; got --onnx and --verify",
        ),
        ([*EXPORT, "--format", "osi"], "--format must be left out with --onnx"),
        ([*EXPORT, "--track"], "--track must be left out with --onnx"),
        ([*EXPORT, "--opset", "17"], "opset must be 20, the one that exports are checked with"),
        ([*EXPORT, "--backend", "onnxruntime"], "--backend must be given with --verify"),
        ([*EXPORT, "--nuscenes", "root"], "--nuscenes and --version must be given together"),
        (EXPORT[:3], "--weights must be given with --onnx; got none"),
        ([*VERIFY, "--backend", "tensorrt"], "backend must be one of onnxruntime, openvino"),
        ([*VERIFY, "--cameras", "7"], "--cameras must be given with --onnx; got --verify"),
        ([*EXPORT, "--split", "val"], "--split must be given with --int8; got --onnx"),
        (["export", "--int8", "8.onnx"], "--model must be given with --int8; got none"),
        ([*INT8, "--split", "s", "--stream"], "--stream must be given with --onnx; got --int8"),
        ([*INT8, "--split", "s", "--frames", "0"], "--frames must be at least 1; got 0"),
        ([*INT8], "--split must be given with --int8; got none"),
        ([*INT8, "--split", "s"], "no model file m.onnx: check the path"),
        (VERIFY, "no model file m.onnx: check the path"),
        ([*PREDICT, "--weights", "tiny_cpu_t4"], "--weights must be left out with --model"),
        ([*PREDICT, "--precision", "bfloat16"], "--model must run in float32 on the CPU"),
        ([*PREDICT, "--backend", "tensorrt"], "backend must be one of onnxruntime, openvino"),
        (
            ["predict", "--weights", "w", "--backend", "onnxruntime", "--out", "r.json"],
            "--model must be given with --backend onnxruntime; got none",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_the_packages_of_the_export_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bevstack.export.runtimes.find_spec", lambda name: None)
    assert main(EXPORT) == 2
    assert "pip install 'bevstack[export]'" in capsys.readouterr().err
