"""`bevstack train|predict|evaluate|show` on labels of pixels, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.cli.main import main
from bevstack.datasets.label_files import read_label_map
from bevstack.tables.label_maps import read_classes, write_classes, write_label_map
from tests.datasets.segmentation.label_files import picture, write_ade20k, write_array
from tests.tasks.test_segmentation import write_streets

CONFIG = """
from dataclasses import replace
from tests.tasks.test_segmentation import CONFIG as SMALL

CONFIG = replace(SMALL, training=replace(SMALL.training, num_steps=2, checkpoint_every=2))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set, a configuration and a trained model."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / "small.py").write_text(CONFIG, encoding="utf-8")
    data = write_streets(write_streets(folder / "city"), split="val", count=2)
    command = ["train", "--config", str(folder / "small.py"), "--cityscapes", str(data)]
    command += ["--split", "train", "--held-out", "val", "--out", str(folder / "run")]
    assert main([*command, "training.evaluate_every=2"]) == 0
    return folder


def test_a_training_is_scored_on_the_held_out_pictures(run: Path) -> None:
    logged = json.loads((run / "run" / "evaluations.jsonl").read_text().splitlines()[-1])
    assert 0 <= logged["mean_iou"] <= logged["pixel_accuracy"] <= 1


def test_predicted_label_maps_score_as_the_weights_do(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = str(run / "run" / "model.safetensors"), run / "labels"
    pictures = run / "city" / "leftImg8bit" / "val"
    command = ["predict", "--weights", weights, "--images", str(pictures), "--out", str(out)]
    assert main([*command, "--mirror", "--ratios", "1", "1.5"]) == 0
    assert "labels of 2 pictures" in capsys.readouterr().out
    maps = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert maps == [
        "aachen/aachen_000101_000019_leftImg8bit.png",
        "ulm/ulm_000100_000019_leftImg8bit.png",
    ]
    assert read_label_map(out / maps[0]).shape == (64, 96)
    assert read_classes(out)[13] == "car"
    evaluate = ["evaluate", "--cityscapes", str(run / "city"), "--split", "val", "--json"]
    assert main([*evaluate, "--results", str(out)]) == 0
    by_files = json.loads(capsys.readouterr().out)
    options = ["--weights", weights, "--mirror", "--ratios", "1", "1.5", "--out", str(run / "m")]
    assert main([*evaluate, *options]) == 0
    by_weights = json.loads(capsys.readouterr().out)
    assert by_files == by_weights == json.loads((run / "m" / "label_metrics.json").read_text())
    assert by_files["iou"]["train"] in (None, 0.0) and set(by_files["iou"]) == set(
        read_classes(out)
    )
    assert main([*evaluate[:-1], "--results", str(out), "--per-class"]) == 0
    assert "of the labelled pixels of 2 pictures" in capsys.readouterr().out


def test_one_picture_is_labelled_and_drawn(run: Path, tmp_path: Path) -> None:
    single = write_array(tmp_path / "street.jpg", picture(50, 70))
    weights, out = str(run / "run" / "model.safetensors"), tmp_path / "labels"
    assert main(["predict", "--weights", weights, "--images", str(single), "--out", str(out)]) == 0
    labels = read_label_map(out / "street.png")
    assert labels.shape == (50, 70)
    show = ["show", "--images", str(single), "--results", str(out), "--out", str(tmp_path / "p")]
    assert main(show) == 0
    drawn = cv2.imread(str(tmp_path / "p" / "street.png"))
    assert drawn.shape[0] > 50 and drawn.shape[1] == 70  # a legend below


def test_known_label_maps_have_the_iou_of_a_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    truth = [rng.integers(0, 5, (9, 7)).astype(np.uint8) for _ in range(2)]  # 0: none, 1: wall
    guess = [rng.integers(0, 4, (9, 7)).astype(np.uint8) for _ in range(2)]
    names = json.loads(json.dumps(_ade_names()))
    colors = [(0, 0, 0)] * len(names)
    write_classes(tmp_path / "labels", names, colors)
    for number, own in enumerate(guess, start=1):
        write_label_map(tmp_path / "labels" / f"ADE_val_{number:08d}.png", own, colors)
    root = str(write_ade20k(tmp_path / "ade", truth))
    command = ["evaluate", str(tmp_path / "labels"), "--ade20k", root, "--split", "validation"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ious = []
    for label in range(4):
        both = either = 0
        for true, got in zip(truth, guess, strict=True):
            for wanted, given in zip(true.ravel().tolist(), got.ravel().tolist(), strict=True):
                if wanted == 0:
                    continue
                both += wanted - 1 == label == given
                either += label in (wanted - 1, given)
        ious.append(both / either)
    assert list(found["iou"].values())[:4] == pytest.approx(ious)
    assert found["mean_iou"] == pytest.approx(sum(ious) / 4) and found["iou"]["flag"] is None


def _ade_names() -> list[str]:
    from bevstack.config.published_segmentation import ADE20K_CLASSES

    return list(ADE20K_CLASSES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "CONFIG", "--cityscapes", "DATA", "--out", "OUT"], "--split"),
        (
            ["train", "--config", "CONFIG", "--dense", "DATA", "--split", "a", "--out", "OUT"],
            "DATA",
        ),
        (
            [
                "train",
                "--config",
                "CONFIG",
                "--cityscapes",
                "DATA",
                "--ade20k",
                "DATA",
                "--split",
                "train",
                "--out",
                "OUT",
            ],
            "one data set must be given; got --ade20k and --cityscapes",
        ),
        (
            [
                "train",
                "--config",
                "CONFIG",
                "--cityscapes",
                "DATA",
                "--split",
                "train",
                "--coco",
                "DATA",
                "--out",
                "OUT",
            ],
            "--coco must be left out with --cityscapes",
        ),
        (
            [
                "train",
                "--config",
                "tiny_cpu",
                "--cityscapes",
                "DATA",
                "--split",
                "train",
                "--out",
                "OUT",
            ],
            "configuration must be one of",
        ),
        (["evaluate", "--cityscapes", "DATA", "--split", "val"], "--weights FILE must be given"),
        (["evaluate", "--cityscapes", "DATA", "--results", "OUT"], "--split must be given"),
        (
            ["evaluate", "--cityscapes", "DATA", "--split", "val", "--weights", "WEIGHTS"],
            "--out DIR must be given with --weights",
        ),
        (
            [
                "evaluate",
                "--cityscapes",
                "DATA",
                "--split",
                "val",
                "--weights",
                "tiny_cpu_t4",
                "--out",
                "OUT",
            ],
            "--weights must label pixels; got tiny_cpu_t4",
        ),
        (
            ["evaluate", "--cityscapes", "DATA", "--split", "val", "--results", "DATA"],
            "must hold classes.json",
        ),
        (
            ["predict", "--weights", "WEIGHTS", "--images", "DATA", "--out", "OUT", "--track"],
            "--track must be left out with weights that label pixels",
        ),
        (
            ["predict", "--weights", "WEIGHTS", "--images", "DATA", "--out", "CONFIG"],
            "--out must be a folder for label maps",
        ),
        (
            [
                "predict",
                "--weights",
                "tiny_cpu_t4",
                "--images",
                "DATA",
                "--out",
                "OUT",
                "--ratios",
                "2",
                "--rig",
                "CONFIG",
            ],
            "--ratios must be given with weights that label pixels",
        ),
        (["show", "--images", "DATA", "--out", "OUT"], "--results must be given with --images"),
        (
            ["show", "--images", "DATA", "--results", "DATA", "--dense", "--out", "OUT"],
            "--dense must be left out",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    names = {
        "CONFIG": str(run / "small.py"),
        "DATA": str(run / "city"),
        "WEIGHTS": str(run / "run" / "model.safetensors"),
        "OUT": str(tmp_path / "out"),
    }
    assert main([names.get(word, word) for word in arguments]) == 2
    assert names.get(message, message) in capsys.readouterr().err


def test_pictures_with_one_label_map_and_missing_maps_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for end in ("jpg", "png"):
        write_array(tmp_path / "in" / f"a.{end}", picture(32, 32))
    command = ["--images", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    weights = str(run / "run" / "model.safetensors")
    assert main(["predict", "--weights", weights, *command]) == 2
    assert "differ without their ends; got two for a.png" in capsys.readouterr().err
    (tmp_path / "in" / "a.png").unlink()
    write_classes(tmp_path / "empty", ["x"], [(1, 2, 3)])
    assert main(["show", "--results", str(tmp_path / "empty"), *command]) == 2
    assert "a.png" in capsys.readouterr().err
