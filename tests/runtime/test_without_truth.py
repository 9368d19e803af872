"""Prediction needs no true boxes: their tables may be missing, damaged or of other categories."""

from __future__ import annotations

from pathlib import Path

import pytest

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.runtime.detector import build
from bevstack.runtime.predict import predict_dataset
from tests.small_world import CONFIG
from tests.tables.test_classes import NAMES, rename
from tests.tables.tiny_root import VERSION, write_tiny_root

TRUTH = ("instance", "sample_annotation", "attribute", "visibility", "category")


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    return predicted(write_tiny_root(folder / "root"), folder / "r.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def predicted(root: Path, out: Path) -> bytes:
    dataset = NuScenesDataset(root, VERSION, scenes=["scene-0916"])
    predict_dataset(build(CONFIG), dataset, out)
    return out.read_bytes()


@pytest.mark.parametrize("missing", [TRUTH, *((name,) for name in TRUTH)], ids="+".join)
def test_missing_tables_change_no_prediction(
    root: Path, tmp_path: Path, wanted: bytes, missing: tuple[str, ...]
) -> None:
    for name in missing:
        (root / VERSION / f"{name}.json").unlink()
    assert predicted(root, tmp_path / "r.json") == wanted


def test_damaged_and_unknown_truth_changes_no_prediction(
    root: Path, tmp_path: Path, wanted: bytes
) -> None:
    rename(root, NAMES)
    assert predicted(root, tmp_path / "r.json") == wanted
    (root / VERSION / "sample_annotation.json").write_text("[")
    assert predicted(root, tmp_path / "s.json") == wanted


def test_a_version_without_annotations_gives_frames_without_them(root: Path) -> None:
    whole = NuScenesDataset(root, VERSION)
    assert whole.without_annotations().frame(0, load_images=False).annotations is None
    assert whole.frame(0, load_images=False).annotations is not None
    (root / VERSION / "sample_annotation.json").unlink()
    assert NuScenesDataset(root, VERSION).frame(0, load_images=False).annotations is None
