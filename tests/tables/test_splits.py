from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bevstack.tables.reader import Tables
from bevstack.tables.splits import MINI_SPLITS, _devkit_scenes, is_official, scenes_of_split
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def _renamed(root: Path, version: str) -> Tables:
    (root / VERSION).rename(root / version)
    return Tables(root, version)


def test_an_official_split_is_limited_to_the_scenes_of_the_version(root: Path) -> None:
    assert scenes_of_split(Tables(root, VERSION), "mini_val") == ("scene-0103", "scene-0916")


def test_an_official_split_without_any_scene_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="split 'mini_train' must have a scene in v1"):
        scenes_of_split(Tables(root, VERSION), "mini_train")


def test_an_official_split_belongs_to_its_version(root: Path) -> None:
    with pytest.raises(
        ValueError, match="'val' must be asked of a version that ends in 'trainval'"
    ):
        scenes_of_split(Tables(root, VERSION), "val")


def test_the_mini_splits_equal_the_devkits() -> None:
    splits = pytest.importorskip("nuscenes.utils.splits").create_splits_scenes()
    for name, scenes in MINI_SPLITS.items():
        assert list(scenes) == list(splits[name])


@pytest.mark.parametrize("split", ["train", "val", "test", "train_detect", "train_track"])
def test_the_large_splits_equal_the_devkits_without_importing_it(split: str) -> None:
    splits = pytest.importorskip("nuscenes.utils.splits").create_splits_scenes()
    assert sorted(_devkit_scenes(split)) == sorted(splits[split])
    program = "import sys; from bevstack.tables.splits import _devkit_scenes as s; s('val'); "
    program += "sys.exit('nuscenes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_large_splits_come_from_the_devkit(root: Path) -> None:
    pytest.importorskip("nuscenes")
    tables = _renamed(root, "v1.0-trainval")  # scene-0103 and scene-0916 are of val
    assert scenes_of_split(tables, "val") == ("scene-0103", "scene-0916")
    with pytest.raises(ValueError, match="got none of its 700 scenes"):
        scenes_of_split(tables, "train")


def test_the_error_without_the_devkit_names_the_extra(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = _renamed(root, "v1.0-trainval")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'bevstack\[nuscenes\]'"):
        scenes_of_split(tables, "val")


def test_other_splits_come_from_splits_json(root: Path) -> None:
    tables = _renamed(root, "v1.0-synth")
    splits = {"synth_val": ["scene-0916"], "synth_train": ["scene-0103", "scene-0404"]}
    (tables.folder / "splits.json").write_text(json.dumps(splits))
    assert scenes_of_split(tables, "synth_val") == ("scene-0916",)
    with pytest.raises(ValueError, match="got 'synth_vall'; did you mean 'synth_val'"):
        scenes_of_split(tables, "synth_vall")
    example = r'group them in .*splits\.json, e\.g\. \{"mine": \["scene-0103"\]\}'
    with pytest.raises(ValueError, match=example):
        scenes_of_split(tables, "mine")
    with pytest.raises(ValueError, match="got 'scene-0404'"):
        scenes_of_split(tables, "synth_train")
    with pytest.raises(ValueError, match=r"splits in its splits\.json: synth_val, synth_train"):
        scenes_of_split(tables, "mini_val")


def test_an_error_names_a_damaged_splits_json(root: Path) -> None:
    tables = Tables(root, VERSION)
    (tables.folder / "splits.json").write_text('{"mine": [1]}')
    with pytest.raises(ValueError, match="must map split names to lists of scene names"):
        scenes_of_split(tables, "mine")
    (tables.folder / "splits.json").write_text("{")
    with pytest.raises(ValueError, match=r"splits\.json must be JSON"):
        scenes_of_split(tables, "mine")


def test_a_list_keeps_its_order(root: Path) -> None:
    tables = Tables(root, VERSION)
    assert scenes_of_split(tables, ["scene-0916", "scene-0103"]) == ("scene-0916", "scene-0103")
    with pytest.raises(ValueError, match="got an empty list"):
        scenes_of_split(tables, [])


def test_only_the_devkits_names_are_official() -> None:
    assert is_official("val")
    assert not is_official("synth_val")
    assert not is_official(["scene-0103"])


@pytest.mark.parametrize("scenes", [["scene-0916", "scene-0103", "scene-0916"], ["scene-0103"] * 2])
def test_a_scene_that_a_split_lists_twice_is_refused(root: Path, scenes: list[str]) -> None:
    tables = Tables(root, VERSION)
    (tables.folder / "splits.json").write_text(json.dumps({"mine": scenes, "good": scenes[:1]}))
    with pytest.raises(
        ValueError, match=rf"split 'mine' in .*splits\.json .*once; got '{scenes[0]}' twice"
    ):
        scenes_of_split(tables, "mine")
    with pytest.raises(ValueError, match=rf"scenes must list .*got '{scenes[0]}' twice"):
        scenes_of_split(tables, scenes)
    assert scenes_of_split(tables, "good") == (scenes[0],)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"mine": ["scene-0103"], "mine": ["scene-0916"]}', "the key 'mine' twice"),
        ('{"mine": "scene-0103"}', "got 'scene-0103' for 'mine'"),
        ('{"mine": []}', r"split 'mine' in .* must name at least one scene"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_a_splits_json_of_another_form_is_refused(root: Path, text: str, message: str) -> None:
    tables = Tables(root, VERSION)
    (tables.folder / "splits.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        scenes_of_split(tables, "mine")
