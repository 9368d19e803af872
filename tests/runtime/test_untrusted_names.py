"""Names in tables and rig files: nothing is written or read outside the folders of the user."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.readiness.inspection import check_root, inspect_root
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.pictures import draw_results
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.rig import frame_from_rig, read_rig
from bevstack.tables.reader import Tables
from tests.small_world import CONFIG, SPEC, small_world

VERSION = SPEC.version
HOSTILE_SCENES = ["../../planted", "{outside}/planted", "a/b", "manifest", "nu\0l", "x" * 400]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(small_world(tmp_path_factory))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return build(CONFIG)


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the small world's tables whose images are links that the user made."""
    copied = tmp_path / "deep/er/world"
    shutil.copytree(whole / VERSION, copied / VERSION)
    (copied / "samples").symlink_to(whole / "samples")
    return copied


def _change(root: Path, table: str, row: int, **fields: Any) -> None:
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    rows[row] |= fields
    path.write_text(json.dumps(rows))


def _camera_row(root: Path) -> int:
    rows = json.loads((root / VERSION / "sample_data.json").read_text())
    return next(k for k, row in enumerate(rows) if "CAM_FRONT/" in row["filename"])


def _everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", HOSTILE_SCENES)
def test_a_scene_of_any_name_is_written_inside_out(
    root: Path, tmp_path: Path, detector: Detector, name: str
) -> None:
    name = name.replace("{outside}", str(tmp_path))
    _change(root, "scene", 0, name=name)
    dataset = NuScenesDataset(root, VERSION, scenes=[name]).select([0])
    before = _everything(tmp_path)
    out = tmp_path / "deep/er/out/results.json"
    predict_dataset(detector, dataset, out)
    pictures = draw_results(root, VERSION, out, tmp_path / "deep/er/out/pictures", scenes=[name])
    assert len(pictures) == 1 and pictures[0].is_file()
    made = _everything(tmp_path) - before
    assert all(path.startswith("deep/er/out") for path in made), made


def test_the_part_of_a_scene_called_manifest_is_no_manifest(
    root: Path, tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(root, "scene", 0, name="manifest")
    monkeypatch.setattr("bevstack.runtime.predict.merge_results", lambda *_: None)
    dataset = NuScenesDataset(root, VERSION, scenes=["manifest"]).select([0])
    for _ in range(2):  # the second call continues the first
        predict_dataset(detector, dataset, tmp_path / "r.json")


OUTSIDE = ["../outside.jpg", "samples/../../outside.jpg", "/dev/zero", "..\\outside.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_image_outside_the_root_is_refused_by_every_reader(
    root: Path, tmp_path: Path, detector: Detector, name: str
) -> None:
    _change(root, "sample_data", _camera_row(root), filename=name)
    dataset = NuScenesDataset(root, VERSION)
    with pytest.raises(ValueError, match=r"file name in the tables of .* must lie inside .*world"):
        dataset.missing_images()
    with pytest.raises(ValueError, match="must lie inside"):
        predict_dataset(detector, dataset, tmp_path / "r.json")
    with pytest.raises(ValueError, match="must lie inside"):
        inspect_root(root, VERSION)
    assert any(
        "must lie inside" in finding.sentence for finding in check_root(root, VERSION).findings
    )


def test_tables_that_the_user_trusts_may_name_images_outside(root: Path, whole: Path) -> None:
    row = _camera_row(root)
    rows = json.loads((root / VERSION / "sample_data.json").read_text())
    inside = NuScenesDataset(root, VERSION).frame(0)
    _change(root, "sample_data", row, filename=str(whole / rows[row]["filename"]))
    trusting = NuScenesDataset(Tables(root, VERSION, allow_outside=True))
    assert trusting.missing_images() == {}
    for first, second in zip(inside.images, trusting.frame(0).images, strict=True):
        assert first is not None and second is not None
        np.testing.assert_array_equal(first, second)


def _rig(folder: Path, **fields: Any) -> Path:
    camera = {
        "name": "front",
        "width": 32,
        "height": 16,
        "intrinsics": [[24.0, 0, 16], [0, 24.0, 8], [0, 0, 1]],
        "ego_from_cam": {"rotation_wxyz": [0.5, -0.5, 0.5, -0.5], "translation_m": [1, 0, 1.5]},
    }
    path = folder / "rig.json"
    path.write_text(json.dumps({"format": "bevstack-rig-1", "cameras": [camera | fields]}))
    return path


@pytest.mark.parametrize("fields", [{"image": name} for name in OUTSIDE] + [{"name": "../outside"}])
def test_an_image_of_a_rig_outside_its_folder_is_refused(
    tmp_path: Path, fields: dict[str, str]
) -> None:
    folder = tmp_path / "images"
    (folder / "samples").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "outside.jpg"), np.full((16, 32, 3), 90, np.uint8))
    rig = read_rig(_rig(folder, **fields))
    with pytest.raises(ValueError, match=r"image of camera .* must lie inside .*images; got"):
        frame_from_rig(rig, folder)
    if fields.get("image") == "/dev/zero":
        with pytest.raises(ValueError, match="must be a regular file; got /dev/zero"):
            frame_from_rig(rig, folder, allow_outside=True)
    elif "\\" not in str(fields):
        assert frame_from_rig(rig, folder, allow_outside=True).images[0] is not None


def test_a_pipe_among_the_images_of_a_rig_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "front.jpg")
    with pytest.raises(ValueError, match=r"must be a regular file; got .*front\.jpg"):
        frame_from_rig(read_rig(_rig(tmp_path)), tmp_path)
