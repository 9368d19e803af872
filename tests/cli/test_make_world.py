from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.cli.make_world import PRESET_NAMES
from bevstack.synthetic import PRESETS, WorldSpec, world_is_complete


def test_world_has_the_given_size_and_is_summarised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "world"
    options = ["--train-scenes", "2", "--val-scenes", "1", "--samples-per-scene", "3"]
    assert main(["make-world", str(root), *options, "--image-size", "90", "160"]) == 0
    assert f"{root}/v1.0-synth: 3 scenes, 9 samples" in capsys.readouterr().out
    spec = WorldSpec(train_scenes=2, val_scenes=1, samples_per_scene=3, image_size=(90, 160))
    assert world_is_complete(root, spec)
    splits = json.loads((root / "v1.0-synth" / "splits.json").read_text())
    assert [len(splits[name]) for name in ("synth_train", "synth_val")] == [2, 1]


def test_options_change_a_preset_and_families_become_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "world"
    counts = ["--train-scenes", "1", "--val-scenes", "1", "--test-scenes", "1"]
    options = [
        *counts,
        "--samples-per-scene",
        "2",
        "--image-size",
        "90",
        "160",
        "--weather",
        "night",
    ]
    assert main(["make-world", str(root), "--preset", "small", *options, "--sweeps"]) == 0
    text = capsys.readouterr().out
    assert "3 scenes, 6 samples" in text and "digest " in text
    splits = json.loads((root / "v1.0-synth" / "splits.json").read_text())
    assert list(splits) == ["synth_train", "synth_val", "synth_test"]
    assert len(list((root / "sweeps" / "CAM_BACK").glob("*.jpg"))) == 3 * 5
    scenes = json.loads((root / "v1.0-synth" / "scene.json").read_text())
    assert all("night" in scene["description"].lower() for scene in scenes)


def test_presets_of_the_program_are_those_of_the_package() -> None:
    assert tuple(PRESETS) == PRESET_NAMES
    only_train = {"lights_training"}
    assert {name for name, spec in PRESETS.items() if not spec.test_scenes} == only_train


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--train-scenes", "-1"], "train_scenes"),
        (["--train-scenes", "0", "--val-scenes", "0"], "one scene or more"),
        (["--image-size", "100", "100"], "image_size"),
        (["--weather", "hail"], "weather"),
        (["--version", "v1.0-trainval"], "version"),
    ],
)
def test_impossible_world_is_refused(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make-world", str(tmp_path / "world"), *options]) == 2
    text = capsys.readouterr().err
    assert reason in text and "must be" in text and "Traceback" not in text
    assert not list(tmp_path.iterdir())


def test_folder_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    assert main(["make-world", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
