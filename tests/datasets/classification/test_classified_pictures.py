"""ImageNet, iNaturalist and Places in the exact form of their files, and their preparation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.datasets.classification.classified_pictures import (
    read_class_map,
    read_imagenet,
    read_inaturalist,
    read_places,
)
from bevstack.datasets.classification.prepare import prepare_classified
from bevstack.datasets.detection2d.prepare import MEAN, STD
from tests.datasets.segmentation.label_files import picture, write_array


def test_classes_of_folders_are_numbered_by_their_names(tmp_path: Path) -> None:
    for name in ("n01443537/a.JPEG", "n01440764/b.JPEG", "n01440764/a.JPEG"):
        path = tmp_path / "val" / name
        write_array(path.with_suffix(".jpg"), picture(8, 6))
        path.with_suffix(".jpg").rename(path)
    (tmp_path / "val" / "n01440764" / "notes.txt").write_text("no picture")
    data = read_imagenet(tmp_path, "val")
    assert data.class_names == ("n01440764", "n01443537")
    assert data.names == ("n01440764/a.JPEG", "n01440764/b.JPEG", "n01443537/a.JPEG")
    assert data.labels == (0, 0, 1) and data.picture(2).shape == (8, 6, 3)
    with pytest.raises(FileNotFoundError, match=r"pictures must lie in the folder .*train"):
        read_imagenet(tmp_path, "train")
    (tmp_path / "train" / "n01440764").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="must hold pictures; got none"):
        read_imagenet(tmp_path, "train")


def test_a_list_gives_the_labels_of_a_flat_folder(tmp_path: Path) -> None:
    write_array(tmp_path / "val" / "ILSVRC2012_val_00000001.jpg", picture(4, 4))
    (tmp_path / "meta").mkdir()
    listed = tmp_path / "meta" / "val.txt"
    listed.write_text("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n")
    data = read_imagenet(tmp_path, "val")
    assert data.names[1] == "ILSVRC2012_val_00000002.JPEG" and data.labels == (65, 970)
    listed.write_text("ILSVRC2012_val_00000001.JPEG\n")
    with pytest.raises(ValueError, match=r"line 1 of .*val\.txt must be a name and a label"):
        read_imagenet(tmp_path, "val")


INATURALIST = {
    "info": {"year": 2018},
    "images": [
        {"id": 437513, "file_name": "train_val2018/Insecta/1455/a.jpg", "height": 8, "width": 6},
        {"id": 437514, "file_name": "train_val2018/Aves/2813/b.jpg", "height": 8, "width": 6},
    ],
    "annotations": [
        {"id": 437514, "image_id": 437514, "category_id": 2},
        {"id": 437513, "image_id": 437513, "category_id": 5},
    ],
    "categories": [
        {"id": 5, "name": "1455", "supercategory": "Insecta"},
        {"id": 2, "name": "2813", "supercategory": "Aves"},
    ],
}


def test_classes_of_inaturalist_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "val2018.json"
    path.write_text(json.dumps(INATURALIST))
    data = read_inaturalist(path, tmp_path)
    assert data.class_names == ("2813", "1455") and data.labels == (1, 0)
    assert data.names[0].endswith("Insecta/1455/a.jpg")
    twice = {**INATURALIST, "annotations": INATURALIST["annotations"] * 2}
    path.write_text(json.dumps(twice))
    with pytest.raises(ValueError, match=r"annotations\[2\] must be the only one of a picture"):
        read_inaturalist(path, tmp_path)
    path.write_text(json.dumps({**INATURALIST, "annotations": INATURALIST["annotations"][:1]}))
    with pytest.raises(ValueError, match="must have a class; got none for 437513"):
        read_inaturalist(path, tmp_path)


def test_places_lists_files_and_names_of_classes(tmp_path: Path) -> None:
    pictures, classes = tmp_path / "places365_train_standard.txt", tmp_path / "categories.txt"
    classes.write_text("/a/airfield 0\n/a/airplane_cabin 1\n")
    pictures.write_text("/a/airplane_cabin/00000001.jpg 1\n/a/airfield/00000002.jpg 0\n")
    data = read_places(pictures, classes, tmp_path)
    assert data.class_names == ("/a/airfield", "/a/airplane_cabin") and data.labels == (1, 0)
    assert data.names[0] == "a/airplane_cabin/00000001.jpg"
    pictures.write_text("a.jpg 2\n")
    with pytest.raises(ValueError, match="below the 2 of its classes; got 2"):
        read_places(pictures, classes, tmp_path)
    classes.write_text("/a/airfield 1\n")
    with pytest.raises(ValueError, match="number its classes from 0 without gaps"):
        read_places(pictures, classes, tmp_path)


def test_a_map_of_classes_has_an_index_a_line(tmp_path: Path) -> None:
    path = tmp_path / "map22kto1k.txt"
    path.write_text("359\n368\n460\n")
    assert read_class_map(path) == (359, 368, 460)
    for text, message in (("1\n-2\n", "line 2 .* must be an index"), ("4\n4\n", "must differ")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_class_map(path)


def test_the_middle_of_a_picture_is_its_shorter_side(tmp_path: Path) -> None:
    image = np.zeros((40, 90, 3), np.uint8)
    image[:, 25:65] = (10, 120, 250)
    tensor = prepare_classified(image, 40)
    assert tensor.shape == (3, 40, 40)
    want = (np.array([10, 120, 250]) - MEAN) / STD
    np.testing.assert_allclose(
        tensor.numpy(), want[:, None, None].repeat(40, 1).repeat(40, 2), atol=1e-5
    )
    assert prepare_classified(np.zeros((1, 1, 3), np.uint8), 32).shape == (3, 32, 32)
    assert prepare_classified(np.zeros((300, 20, 3), np.uint8), 32).shape == (3, 32, 32)
    with pytest.raises(ValueError, match="picture must be an array of uint8"):
        prepare_classified(np.zeros((4, 4), np.uint8), 32)


def test_a_smaller_picture_is_smoothed_as_pillow_does() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255  # every second column: grey after a reduction by 4
    values = prepare_classified(stripes, 32)[0] * STD[0] + MEAN[0]
    assert float((values[:, 4:-4] - 127.5).abs().max()) < 3  # bilinear without smoothing: 0 or 255
