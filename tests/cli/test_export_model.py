"""Options for models of ``bevstack export`` and ``bevstack predict``: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from bevstack.cli.main import main

EXPORT = ["export", "--onnx", "m.onnx", "--weights", "tiny_cpu_t4"]
VERIFY = ["export", "--verify", "m.onnx", "--weights", "tiny_cpu_t4"]
CLASSIFIER = ["export", "--onnx", "m.onnx", "--classifier", "internimage_t"]
DETECTOR = ["export", "--onnx", "m.onnx", "--config", "mask_rcnn_nano"]
LABELLER = ["export", "--onnx", "m.onnx", "--config", "upernet_internimage_t_512_ade20k"]
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
        ([*VERIFY, "--backend", "tvm"], "backend must be one of onnxruntime, openvino, tensorrt, "),
        ([*VERIFY, "--cameras", "7"], "--cameras must be given with --onnx; got --verify"),
        ([*EXPORT, "--split", "val"], "--split must be given with --int8; got --onnx"),
        (["export", "--int8", "8.onnx"], "--model must be given with --int8; got none"),
        ([*INT8, "--split", "s", "--stream"], "--stream must be given with --onnx; got --int8"),
        ([*INT8, "--split", "s", "--frames", "0"], "--frames must be at least 1; got 0"),
        ([*INT8], "--split must be given with --int8; got none"),
        ([*INT8, "--split", "s"], "no model file m.onnx: check the path"),
        ([*EXPORT, "--batch", "0"], "--batch must be at least 1; got 0"),
        ([*EXPORT, "--size", "64", "64"], "--size must be given with a model of single pictures"),
        ([*DETECTOR, "--stream"], "--stream must be left out for a model of single pictures"),
        ([*DETECTOR, "--batch", "2"], "--batch must be left out for a model of single pictures"),
        ([*DETECTOR, "--size", "8", "64"], "--size must be at least 32 pixels a side; got 8 64"),
        ([*LABELLER, "--size", "64", "80"], "--size must be two multiples of 32"),
        ([*DETECTOR[:-1], "dino_internimage_t_1x"], "--onnx must be of Mask R-CNN, Cascade"),
        ([*CLASSIFIER, "--stream"], "--stream must be left out with --classifier; got both"),
        ([*CLASSIFIER[:-1], "resnet"], "--classifier must be one of internimage_t, "),
        ([*CLASSIFIER, "--size", "0", "8"], "--size must be two positive numbers of pixels"),
        ([*CLASSIFIER, "--weights", "none.pth"], "none.pth"),
        ([*VERIFY, "--custom-ops"], "--custom-ops must be given with --onnx; got --verify"),
        ([*INT8, "--split", "s", "--custom-ops"], "--custom-ops must be given with --onnx; got"),
        ([*VERIFY, "--classifier", "internimage_t"], "--classifier must be given with --onnx"),
        ([*INT8, "--split", "s", "--batch", "2"], "--batch must be given with --onnx; got --int8"),
        (VERIFY, "no model file m.onnx: check the path"),
        ([*PREDICT, "--weights", "tiny_cpu_t4"], "--weights must be left out with --model"),
        (
            [*PREDICT, "--precision", "bfloat16"],
            "--model must be given with --device cpu and without --precision",
        ),
        (
            [*PREDICT, "--backend", "tvm"],
            "backend must be one of onnxruntime, openvino, tensorrt, ",
        ),
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


@pytest.mark.slow
def test_a_published_classifier_is_exported_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from bevstack.config.internimage import classification_config
    from bevstack.interop.internimage_names import ours_to_official
    from bevstack.models.classification.internimage_heads import InternImageClassifier

    model, weights = str(tmp_path / "c.onnx"), str(tmp_path / "t.pth")
    torch.manual_seed(1)
    state = InternImageClassifier(classification_config("internimage_t"), 11).state_dict()
    torch.save({"model": {ours_to_official(name): value for name, value in state.items()}}, weights)
    command = ["export", "--onnx", model, "--classifier", "internimage_t", "--weights", weights]
    assert main([*command, "--size", "64", "96", "--batch", "2"]) == 0
    assert "logits of 2 images in batches of 2 equal ours in onnxruntime" in capsys.readouterr().out
    assert main(["export", "--verify", model, "--weights", weights]) == 0
    state["head.fc.weight"] += 0.01
    torch.save({"model": {ours_to_official(name): value for name, value in state.items()}}, weights)
    assert main(["export", "--verify", model, "--weights", weights]) == 2
    assert "--weights must be those that" in capsys.readouterr().err


@pytest.mark.slow
def test_a_detector_of_two_samples_is_exported_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bevstack.models.build import save_model
    from bevstack.runtime.detector import build
    from tests.small_world import CONFIG

    model, weights = str(tmp_path / "m.onnx"), str(tmp_path / "w.safetensors")
    save_model(tmp_path / "w.safetensors", build(CONFIG).model, CONFIG)
    assert main(["export", "--onnx", model, "--weights", weights, "--batch", "2"]) == 0
    assert main(["export", "--verify", model, "--weights", weights]) == 0
    assert "boxes of 5 cases equal ours in onnxruntime" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("mask_rcnn_nano", "objects of 3 pictures equal ours in onnxruntime"),
        ("upernet_internimage_t_512_ade20k", "18432 pixels of 3 pictures equal ours in onnxrun"),
    ],
)
def test_models_of_pictures_are_exported_by_the_name_of_their_configuration(
    config: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    assert main(["export", "--onnx", str(path), "--config", config, "--size", "64", "96"]) == 0
    printed = capsys.readouterr().out
    assert "weights are random" in printed and sentence in printed
    assert path.is_file()
