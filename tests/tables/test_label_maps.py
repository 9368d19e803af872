"""Folders of label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bevstack.datasets.label_files import read_label_map
from bevstack.tables.label_maps import (
    CLASSES_FILE,
    label_map_names,
    read_classes,
    write_classes,
    write_label_map,
)


def test_labels_and_colours_survive_the_file(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)[:, ::2]
    path = tmp_path / "street" / "a.png"
    write_label_map(path, labels, [(1, 2, 3), (4, 5, 6), (7, 8, 9)])
    np.testing.assert_array_equal(read_label_map(path), labels)
    colors = np.array(Image.open(path).convert("RGB"))
    assert colors[0, 0].tolist() == [1, 2, 3] and colors[0, 1].tolist() == [7, 8, 9]
    assert colors[-1, -1].tolist() == [0, 0, 0]


def test_names_follow_the_pictures() -> None:
    assert label_map_names(["a.jpg", "x/b.c.jpeg"]) == ["a.png", "x/b.c.png"]
    with pytest.raises(ValueError, match=r"got two for x/a\.png"):
        label_map_names(["x/a.jpg", "b.jpg", "x/a.bmp"])


def test_classes_are_read_in_label_order_and_damage_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, ["road", "car"], [(0, 0, 0), (9, 9, 9)])
    assert read_classes(tmp_path) == ("road", "car")
    (tmp_path / CLASSES_FILE).write_text('{"classes": [{"label": 0}]}')
    with pytest.raises(ValueError, match=r"classes\[0\].*name"):
        read_classes(tmp_path)
    (tmp_path / CLASSES_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=f"must hold {CLASSES_FILE}"):
        read_classes(tmp_path)
