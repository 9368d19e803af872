"""Drawings of objects in COCO's format over their pictures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.cli.main import main
from bevstack.tables.coco_masks import encode_mask
from tests.datasets.segmentation.label_files import write_array


def write_results(folder: Path) -> Path:
    """Write two grey pictures and three objects, one of them with a mask."""
    for name in ("x/a.png", "b.png"):
        write_array(folder / "in" / name, np.full((60, 80, 3), 90, np.uint8))
    mask = np.zeros((60, 80), bool)
    mask[30:50, 20:40] = True
    entries = [
        {"image_id": 7, "category_id": 3, "bbox": [20, 30, 20, 20], "score": 0.9}
        | {"segmentation": encode_mask(mask)},
        {"image_id": 7, "category_id": 1, "bbox": [50, 30, 20, 20], "score": 0.8},
        {"image_id": 8, "category_id": 1, "bbox": [5, 30, 20, 20], "score": 0.1},
    ]
    pictures = [{"id": 7, "file_name": "x/a.png"}, {"id": 8, "file_name": "b.png"}]
    listed = {
        "images": [{**own, "height": 60, "width": 80} for own in pictures],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    (folder / "found.json").write_text(json.dumps(entries))
    (folder / "found.images.json").write_text(json.dumps(listed))
    return folder / "found.json"


def show(folder: Path, *options: str) -> int:
    command = ["show", "--images", str(folder / "in"), "--results", str(folder / "found.json")]
    return main([*command, "--out", str(folder / "out"), *options])


def test_masks_boxes_and_the_score_limit(tmp_path: Path) -> None:
    write_results(tmp_path)
    assert show(tmp_path) == 0
    first, second = (cv2.imread(str(tmp_path / "out" / name)) for name in ("x/a.png", "b.png"))
    assert (first[40, 30] != 90).any()  # within the mask
    assert (first[40, 60] == 90).all() and (first[40, 50] != 90).any()  # a box alone
    assert (second == 90).all()  # its only object has a lower score than 0.2
    assert show(tmp_path, "--min-score", "0.05", "--max-frames", "1") == 0


def test_results_that_do_not_fit_the_pictures_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = write_results(tmp_path)
    entries = json.loads(results.read_text())
    results.write_text(json.dumps([{**entries[0], "category_id": 2}]))
    assert show(tmp_path) == 2
    assert "entry 0 must be of a listed class; got category_id 2" in capsys.readouterr().err
    results.write_text(json.dumps(entries))
    write_array(tmp_path / "in" / "x" / "a.png", np.full((30, 80, 3), 90, np.uint8))
    assert show(tmp_path) == 2
    message = "mask must have the size [30, 80] of its picture; got [60, 80]"
    printed = capsys.readouterr().err
    assert message in printed and "entry 0" in printed
    (tmp_path / "in" / "x" / "a.png").unlink()
    assert show(tmp_path) == 2
    assert "--images must hold x/a.png, which" in capsys.readouterr().err
