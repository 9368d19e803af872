"""Reading of COCO's files: objects, masks, entries to drop, and files that are refused."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.loading import load_task_config
from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.datasets.detection2d.stream import PictureStream
from bevstack.tables.coco_masks import decode_mask
from tests.conftest import shared_dir
from tests.datasets.detection2d.coco_files import annotation, usual, write_coco

pytest.importorskip("pycocotools")


def test_objects_keep_their_boxes_classes_and_masks(tmp_path: Path) -> None:
    dataset = CocoDataset(write_coco(tmp_path), "train")
    assert dataset.class_names == ("person", "car")
    assert dataset.category_ids == (1, 3)
    assert [len(own.objects) for own in dataset.pictures] == [2, 1, 0]
    assert dataset.trainable() == [0, 1]
    first = dataset.pictures[0].objects
    assert [item.label for item in first] == [1, 0]
    assert first[0].box == (10, 12, 30, 28)
    mask = dataset.masks(0)[0].astype(bool)
    white = (dataset.picture(0) > 200).all(-1)
    assert np.array_equal(mask, white)
    assert dataset.masks(2).shape == (0, 48, 64)


def test_runs_and_compressed_runs_give_the_same_mask(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    wanted = np.zeros((5, 7), np.uint8)
    wanted[1:3, 2:6] = 1
    packed = coco_mask.encode(np.asfortranarray(wanted))
    text = {"size": [5, 7], "counts": packed["counts"].decode()}
    changes = np.flatnonzero(np.diff(wanted.ravel(order="F"))) + 1
    counts = np.diff([0, *changes, 35]).tolist()
    for segmentation in (text, {"size": [5, 7], "counts": counts}):
        assert np.array_equal(decode_mask(segmentation, (5, 7)), wanted)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        {"size": [7, 5], "counts": [35]},
        {"size": [5, 7], "counts": [34]},
        {"size": [5, 7], "counts": [40, -5]},
        {"size": [5, 7], "counts": "0"},
        {"size": [5, 7], "counts": "\u00ff!"},
        {"size": [5, 7]},
        [[1, 2]],
        [["a", "b", "c", "d", "e", "f"]],
        3,
    ],
)
def test_masks_that_do_not_fit_are_refused(segmentation: Any) -> None:
    with pytest.raises(ValueError, match=r"must .*; got "):
        decode_mask(segmentation, (5, 7))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (annotation(1, 8, [1, 1, 5, 5]), "picture 8"),
        (annotation(1, 7, [1, 1, 5, 5], category_id=2), "category_id 2"),
        (annotation(1, 7, [1, 1, 5, 5]) | {"bbox": [1, 1, 5]}, "annotations"),
        (annotation(1, 7, [1, 1, 5, 5]) | {"bbox": [1, 1, 5, "x"]}, "annotations"),
    ],
)
def test_entries_that_do_not_fit_are_refused(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    write_coco(tmp_path, usual())
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [entry]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        CocoDataset(tmp_path, "train")


@pytest.mark.parametrize("table", ["images", "annotations", "categories"])
def test_a_number_given_twice_is_refused(tmp_path: Path, table: str) -> None:
    path = write_coco(tmp_path) / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content[table][1]["id"] = content[table][0]["id"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{table}\[1\] must have an id of its own"):
        CocoDataset(tmp_path, "train")


def test_a_name_of_two_classes_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path) / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 30, "name": "car"})
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="'car' a second time"):
        CocoDataset(tmp_path, "train")


def test_what_is_dropped_is_counted_by_reason(tmp_path: Path) -> None:
    dataset = CocoDataset(write_coco(tmp_path), "train")
    assert dataset.dropped == {"crowd": 1, "ignored": 1, "without area": 2, "outside": 1}
    assert sum(len(own.objects) for own in dataset.pictures) == 3


def test_classes_of_another_data_set_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'person'"):
        CocoDataset(write_coco(tmp_path), "train", class_names=("car", "tree"))
    with pytest.raises(FileNotFoundError, match="instances_val"):
        CocoDataset(tmp_path, "val")


def test_a_split_with_crowds_alone_cannot_be_trained_on(tmp_path: Path) -> None:
    write_coco(tmp_path, [annotation(1, 7, [1, 1, 20, 20], iscrowd=1)])
    config = nano()
    dataset = CocoDataset(tmp_path, "train", class_names=config.class_names)
    with pytest.raises(ValueError, match="no crowd"):
        PictureStream(dataset, config, recipe=config.training)


def nano() -> Detection2DConfig:
    return load_task_config(Detection2DConfig, "detection2d", "mask_rcnn_nano")


def test_batches_depend_on_the_position_alone(tmp_path: Path) -> None:
    config = nano()
    dataset = CocoDataset(write_coco(tmp_path), "train", class_names=config.class_names)
    recipe = replace(config.training, seed=3, num_workers=0)

    def take(start: int, count: int) -> list[Any]:
        stream = PictureStream(dataset, config, recipe=recipe, start=start)
        return list(itertools.islice(stream, count))

    whole, rest = take(0, 4), take(4, 2)
    for first, second in zip(whole[2:], rest, strict=True):
        assert first.names == second.names
        assert first.seeds == second.seeds
        assert torch.equal(first.images, second.images)
    assert {name for batch in whole for name in batch.names} == {
        "000000000007.png",
        "000000000009.png",
    }


@pytest.mark.oracle("data_coco2")
def test_real_annotations_give_masks_within_their_boxes() -> None:
    shared = shared_dir()
    assert shared is not None
    dataset = CocoDataset(shared / "data" / "coco2", "train", class_names=nano().class_names)
    assert [len(own.objects) for own in dataset.pictures] == [19, 14]
    for index, own in enumerate(dataset.pictures):
        assert dataset.picture(index).shape[:2] == own.size
        for item, mask in zip(own.objects, dataset.masks(index), strict=True):
            rows, columns = np.nonzero(mask)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # Polygons have fractions of pixels, which masks round.
            np.testing.assert_allclose(edges, item.box, atol=2)
