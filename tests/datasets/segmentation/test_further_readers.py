"""COCO-Stuff, PASCAL VOC and Context, and NYU Depth v2 as labelled pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bevstack.datasets.segmentation.coco_stuff import COCO_STUFF_CLASSES, read_coco_stuff
from bevstack.datasets.segmentation.nyu import NYU_CLASSES, read_nyu
from bevstack.datasets.segmentation.voc_segmentation import (
    CONTEXT_CLASSES,
    read_pascal_context,
    read_voc_labels,
)
from tests.datasets.segmentation.label_files import picture, write_array

# Numbers of COCO's first list of things that its pictures of 2017 do not use.
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)


def test_coco_stuff_has_171_labels_without_gaps(tmp_path: Path) -> None:
    used = [number for number in range(1, 183) if number not in UNUSED]
    assert len(used) == len(COCO_STUFF_CLASSES) == len(set(COCO_STUFF_CLASSES)) == 171
    stored = np.array([[number - 1 for number in used] + [255]], np.uint8)
    write_array(tmp_path / "val2017" / "000000000139.jpg", picture(*stored.shape))
    labels = write_array(tmp_path / "stuffthingmaps" / "val2017" / "000000000139.png", stored)
    data = read_coco_stuff(tmp_path, "val2017")
    assert data.labels(0).ravel().tolist() == [*range(171), 255]
    named = {
        number: COCO_STUFF_CLASSES[label]
        for number, label in zip(used, data.labels(0).ravel().tolist(), strict=False)
    }
    # From the published list of labels.
    known = {1: "person", 90: "toothbrush", 92: "banner", 106: "clouds", 149: "road", 182: "wood"}
    assert {number: named[number] for number in known} == known
    write_array(labels, np.full((1, 172), 11, np.uint8))  # "street sign", never used
    with pytest.raises(ValueError, match="172 values of its data set; got 11 in"):
        data.labels(0)


def write_voc(root: Path, lists: str, labels: str, stored: np.ndarray) -> Path:
    (root / "ImageSets" / lists).mkdir(parents=True)
    (root / "ImageSets" / lists / "val.txt").write_text("2007_000033\n2007_000042\n")
    (root / labels).mkdir()
    for name in ("2007_000033", "2007_000042"):
        write_array(root / "JPEGImages" / f"{name}.jpg", picture(*stored.shape))
        image = Image.fromarray(stored)
        image.putpalette([value for n in range(256) for value in (n, 255 - n, 7)])
        image.save(root / labels / f"{name}.png")
    return root


def test_voc_has_a_background_and_edges_without_labels(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 15, 20, 255]], np.uint8)
    data = read_voc_labels(write_voc(tmp_path, "Segmentation", "SegmentationClass", stored), "val")
    assert len(data) == 2 and data.labels(1).tolist() == stored.tolist()
    assert [data.class_names[label] for label in (0, 1, 15, 20)] == [
        "background",
        "aeroplane",
        "person",
        "tvmonitor",
    ]


def test_context_has_59_classes_without_the_background(tmp_path: Path) -> None:
    assert len(set(CONTEXT_CLASSES)) == 59
    stored = np.array([[0, 1, 59, 37]], np.uint8)
    root = write_voc(tmp_path, "SegmentationContext", "SegmentationClassContext", stored)
    data = read_pascal_context(root, "val")
    assert data.labels(0).tolist() == [[255, 0, 58, 36]]
    assert (CONTEXT_CLASSES[0], CONTEXT_CLASSES[58], CONTEXT_CLASSES[36]) == (
        "aeroplane",
        "wood",
        "person",
    )
    (root / "SegmentationClassContext" / "2007_000042.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"must have a label map; 1 have none, first .*42"):
        read_pascal_context(root, "val")
    with pytest.raises(FileNotFoundError):
        read_pascal_context(root, "train")


def test_nyu_has_40_classes_less_one(tmp_path: Path) -> None:
    assert len(set(NYU_CLASSES)) == 40
    stored = np.array([[0, 1, 22, 40]], np.uint8)
    write_array(tmp_path / "label40" / "0001.png", stored)
    write_array(tmp_path / "image" / "0001.jpg", picture(1, 4))
    (tmp_path / "test.txt").write_text("0001\n")
    data = read_nyu(tmp_path, "test")
    assert data.labels(0).tolist() == [[255, 0, 21, 39]] and data.picture(0).shape == (1, 4, 3)
    assert (NYU_CLASSES[0], NYU_CLASSES[21], NYU_CLASSES[39]) == ("wall", "ceiling", "otherprop")
    write_array(tmp_path / "label40" / "0001.png", np.full((1, 4), 41, np.uint8))
    with pytest.raises(ValueError, match="got 41 in"):
        data.labels(0)
