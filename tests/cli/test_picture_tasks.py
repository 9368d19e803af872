"""`bevstack train|predict|evaluate` on objects in pictures, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.runtime.picture_detector import PictureDetector
from tests.datasets.detection2d.coco_files import usual, write_coco

pytest.importorskip("pycocotools")

CONFIG = """
from dataclasses import replace
from bevstack.configs.detection2d.mask_rcnn_nano import CONFIG as NANO
from bevstack.config.detection2d import PictureConfig

CONFIG = replace(
    NANO,
    name="two_classes",
    class_names=("person", "car"),
    channels=16,
    pictures=PictureConfig(long_side=96, short_side=64),
    roi=replace(NANO.roi, hidden_channels=32, samples=32, score_threshold=0.01),
    training=replace(NANO.training, num_steps=2, warmup_steps=1, log_every=1, checkpoint_every=2),
)
"""


def files(folder: Path) -> tuple[str, str]:
    """Return a configuration and a data set."""
    path = folder / "two_classes.py"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path), str(write_coco(folder / "data", usual()[:4]))


def test_a_trained_detector_predicts_and_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data = files(tmp_path)
    out = tmp_path / "run"
    command = ["train", "--config", config, "--coco", data, "--split", "train", "--out", str(out)]
    assert main([*command, "--held-out", "train", "training.evaluate_every=2"]) == 0
    assert "3 pictures, 2 of them with objects" in capsys.readouterr().out
    logged = json.loads((out / "evaluations.jsonl").read_text().splitlines()[-1])
    assert {"mask_ap", "box_ap"} <= logged.keys() | logged.get("figures", {}).keys()
    weights, results = str(out / "model.safetensors"), tmp_path / "results.json"
    pictures = str(tmp_path / "data" / "train")
    predict = ["predict", "--weights", weights, "--images", pictures, "--out", str(results)]
    assert main(predict) == 0
    entries = json.loads(results.read_text())
    assert {entry["image_id"] for entry in entries} <= {7, 9, 11}
    listed = json.loads((tmp_path / "results.images.json").read_text())
    assert [image["id"] for image in listed["images"]] == [7, 9, 11]
    assert [own["id"] for own in listed["categories"]] == [1, 3]
    evaluate = ["evaluate", "--coco", data, "--split", "train", "--results", str(results)]
    assert main(evaluate) == 0
    printed = capsys.readouterr().out
    assert "ap50" in printed
    assert (tmp_path / "coco_metrics.json").is_file()


DINO = """
from dataclasses import replace
from bevstack.config import InternImageConfig, TrainingConfig
from bevstack.config.detection2d import PictureConfig
from bevstack.config.dino import DinoConfig, DinoDetectorConfig

CONFIG = DinoDetectorConfig(
    name="small_dino",
    class_names=("person", "car"),
    pictures=PictureConfig(long_side=96, short_side=64),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), drop_path_rate=0.0,
        out_indices=(1, 2, 3),
    ),
    dino=DinoConfig(
        channels=32, encoder_layers=1, decoder_layers=2, feedforward_channels=32, num_queries=20,
        norm_groups=8, noised_queries=8, detections=10,
    ),
    training=TrainingConfig(
        num_steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1, log_every=1,
        checkpoint_every=2, num_workers=0,
    ),
)
"""


def test_dino_trains_and_predicts_boxes_without_masks(tmp_path: Path) -> None:
    without_masks = [{**entry, "segmentation": None} for entry in usual()[:3]]
    data = str(write_coco(tmp_path / "data", without_masks))
    path, out = tmp_path / "dino.py", tmp_path / "run"
    path.write_text(DINO, encoding="utf-8")
    train = ["train", "--config", str(path), "--coco", data, "--split", "train"]
    train += ["--held-out", "train", "--out", str(out), "training.evaluate_every=2"]
    assert main(train) == 0
    results = tmp_path / "results.json"
    weights, pictures = str(out / "model.safetensors"), f"{data}/train"
    predict = ["predict", "--weights", weights, "--images", pictures, "--out", str(results)]
    assert main(predict) == 0
    entries = json.loads(results.read_text())
    assert len(entries) == 3 * 10
    assert not any("segmentation" in entry for entry in entries)


def test_random_weights_predict_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, data = files(tmp_path)
    out = str(tmp_path / "results.json")
    command = ["predict", "--config", config, "--images", f"{data}/train", "--out", out]
    assert main(command) == 0
    assert "random" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "CONFIG", "--coco", "DATA", "--out", "OUT"], "--split"),
        (
            ["train", "--config", "CONFIG", "--coco", "DATA", "--split", "val", "--out", "OUT"],
            "instances_val",
        ),
        (
            ["train", "--config", "tiny_cpu", "--coco", "DATA", "--split", "train", "--out", "OUT"],
            "tiny_cpu",
        ),
        (["evaluate", "--coco", "DATA", "--split", "train"], "--results"),
        (["evaluate", "--coco", "DATA", "--results", "OUT"], "--split"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    config, data = files(tmp_path)
    names = {"CONFIG": config, "DATA": data, "OUT": str(tmp_path / "out")}
    assert main([names.get(word, word) for word in arguments]) == 2
    assert message in capsys.readouterr().err


def test_weights_of_another_kind_are_not_loaded_as_a_detector_of_pictures() -> None:
    import bevstack

    assert not isinstance(bevstack.load("tiny_cpu_t4"), PictureDetector)
