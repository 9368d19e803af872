"""ADE20K, Cityscapes and dense worlds as labelled pictures, and files that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.config.published_segmentation import ADE20K_CLASSES, CITYSCAPES_CLASSES
from bevstack.datasets.label_files import read_label_files, read_label_map
from bevstack.datasets.segmentation.ade20k import read_ade20k
from bevstack.datasets.segmentation.cityscapes import read_cityscapes
from bevstack.datasets.segmentation.dense_world import read_dense_world
from bevstack.datasets.segmentation.labelled import LabelledPictures
from bevstack.synthetic import make_world
from bevstack.tables.reader import Tables
from bevstack.vocabulary import SEMANTIC_CLASSES
from tests.datasets.segmentation.label_files import (
    SMALL_DENSE,
    write_ade20k,
    write_array,
    write_cityscapes,
)
from tests.small_world import build_once

# The published table of Cityscapes: name, id, train id (255: not scored), of all that are drawn.
CITYSCAPES_TABLE = """
unlabeled 0 255, ego vehicle 1 255, rectification border 2 255, out of roi 3 255, static 4 255,
dynamic 5 255, ground 6 255, road 7 0, sidewalk 8 1, parking 9 255, rail track 10 255,
building 11 2, wall 12 3, fence 13 4, guard rail 14 255, bridge 15 255, tunnel 16 255, pole 17 5,
polegroup 18 255, traffic light 19 6, traffic sign 20 7, vegetation 21 8, terrain 22 9, sky 23 10,
person 24 11, rider 25 12, car 26 13, truck 27 14, bus 28 15, caravan 29 255, trailer 30 255,
train 31 16, motorcycle 32 17, bicycle 33 18
"""


def test_labels_of_ade20k_are_its_numbers_less_one_and_zero_counts_nowhere(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 2], [20, 137, 150]], np.uint8)
    data = read_ade20k(write_ade20k(tmp_path, [stored, stored.T.copy()]), "validation")
    assert [own.name for own in data.files] == ["ADE_val_00000001.jpg", "ADE_val_00000002.jpg"]
    assert data.class_names == ADE20K_CLASSES
    assert data.labels(0).tolist() == [[255, 0, 1], [19, 136, 149]]
    sample = data.sample(1)
    assert sample.image.shape == (3, 2, 3) and sample.semantic[0].tolist() == [255, 19]


def test_ids_of_cityscapes_become_the_published_train_ids(tmp_path: Path) -> None:
    ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
    data = read_cityscapes(write_cityscapes(tmp_path, [ids, ids]), "val")
    assert [own.name for own in data.files] == [
        "aachen/aachen_000101_000019_leftImg8bit.png",
        "ulm/ulm_000100_000019_leftImg8bit.png",
    ]
    want = {}
    for entry in CITYSCAPES_TABLE.replace("\n", " ").split(","):
        *words, number, train_id = entry.split()
        want[int(number)] = int(train_id)
        if train_id != "255":
            assert CITYSCAPES_CLASSES[int(train_id)] == " ".join(words)
    assert len(want) == 34
    assert dict(zip(ids.ravel().tolist(), data.labels(0).ravel().tolist(), strict=True)) == want


def test_train_ids_of_cityscapes_are_preferred_to_ids(tmp_path: Path) -> None:
    ids = np.full((2, 3), 26, np.uint8)
    train_ids = np.array([[0, 18, 255], [13, 13, 1]], np.uint8)
    write_cityscapes(tmp_path, [ids])
    write_cityscapes(tmp_path, [train_ids], ending="labelTrainIds")
    assert read_cityscapes(tmp_path, "val").labels(0).tolist() == train_ids.tolist()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_once(
        tmp_path_factory, "small_dense", lambda folder: make_world(folder, SMALL_DENSE)
    )


def test_a_dense_world_gives_each_camera_image_of_a_split_its_stored_labels(world: Path) -> None:
    tables = Tables(world, "v1.0-synth")
    train = read_dense_world(tables, "synth_train")
    held_out = read_dense_world(tables, "synth_val")
    assert len(train) == len(held_out) == 6 and train.class_names == SEMANTIC_CLASSES
    assert not {own.name for own in train.files} & {own.name for own in held_out.files}
    by_name = {
        str(tables.keyframes.filename[row]): str(tables.keyframes.token[row])
        for row in range(len(tables.keyframes.token))
    }
    stored = read_label_files(tables)
    for row, own in enumerate(train.files):
        sample = train.sample(row)
        assert sample.image.shape == (90, 160, 3)
        np.testing.assert_array_equal(
            sample.semantic, read_label_map(stored[by_name[own.name]].semantic)
        )


def test_a_world_without_dense_labels_is_refused_with_the_command(
    world: Path, tmp_path: Path
) -> None:
    shutil.copytree(world / "v1.0-synth", tmp_path / "v1.0-synth")
    (tmp_path / "v1.0-synth" / "dense_label.json").unlink()
    with pytest.raises(FileNotFoundError, match="make-world --dense"):
        read_dense_world(Tables(tmp_path, "v1.0-synth"), "synth_train")


def small_ade20k(root: Path) -> LabelledPictures:
    return read_ade20k(write_ade20k(root, [np.ones((4, 6), np.uint8)] * 2), "validation")


def test_labels_of_another_size_than_the_picture_are_refused(tmp_path: Path) -> None:
    data = small_ade20k(tmp_path)
    write_array(data.files[1].labels, np.ones((6, 4), np.uint8))
    with pytest.raises(ValueError, match=r"6x4 \(width x height\); got 4x6 in .*00000002.png"):
        data.sample(1)


def test_values_that_the_data_set_does_not_define_are_refused(tmp_path: Path) -> None:
    data = small_ade20k(tmp_path)
    write_array(data.files[0].labels, np.array([[1, 151, 255, 0, 3, 4]] * 4, np.uint8))
    with pytest.raises(ValueError, match=r"hold the 151 values of its data set; got 151, 255 in"):
        data.sample(0)
    ids = np.full((2, 2), 34, np.uint8)
    with pytest.raises(ValueError, match=r"34 values of its data set; got 34 in .*labelIds.png"):
        read_cityscapes(write_cityscapes(tmp_path / "city", [ids]), "val").labels(0)


def test_missing_files_and_folders_are_refused_by_name(tmp_path: Path) -> None:
    data = small_ade20k(tmp_path)
    data.files[1].labels.unlink()
    message = "each of the 2 pictures of .* must have a label map; 1 have none, first .*0002.png"
    with pytest.raises(FileNotFoundError, match=message):
        read_ade20k(tmp_path, "validation")
    with pytest.raises(FileNotFoundError, match=r"pictures must lie in the folder .*training"):
        read_ade20k(tmp_path, "training")
    with pytest.raises(FileNotFoundError, match=r"pictures must lie in the folder .*leftImg8bit"):
        read_cityscapes(tmp_path, "val")
    (tmp_path / "images" / "training").mkdir()
    with pytest.raises(FileNotFoundError, match="label maps must lie in the folder"):
        read_ade20k(tmp_path, "training")
    (tmp_path / "annotations" / "training").mkdir()
    with pytest.raises(FileNotFoundError, match="must hold labelled pictures; got none"):
        read_ade20k(tmp_path, "training")


def test_colour_label_maps_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    data = small_ade20k(tmp_path)
    path = data.files[0].labels
    write_array(path, np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(ValueError, match="one channel of 8 bits; got 3 of 8 bits"):
        data.sample(0)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="label map must be a readable picture; got"):
        data.sample(0)


def test_label_maps_with_a_palette_are_read_by_index(tmp_path: Path) -> None:
    from PIL import Image

    data = small_ade20k(tmp_path)
    stored = np.array([[1, 2, 150, 0, 7, 7]] * 4, np.uint8)
    image = Image.fromarray(
        stored,
    )
    image.putpalette([value for number in range(256) for value in (number, 255 - number, 9)])
    image.save(data.files[0].labels)
    assert cv2.imread(str(data.files[0].labels)).shape == (4, 6, 3)  # colours, not labels
    assert data.labels(0)[0].tolist() == [0, 1, 149, 255, 6, 6]


def test_labels_follow_the_names_of_a_model_s_classes(tmp_path: Path) -> None:
    ids = np.array([[7, 26, 0]], np.uint8)
    data = read_cityscapes(write_cityscapes(tmp_path, [ids]), "val")
    names = ("extra", *reversed(CITYSCAPES_CLASSES))
    assert data.with_classes(names).labels(0).tolist() == [[19, 6, 255]]
    with pytest.raises(ValueError, match="must be among the 2 of the model; got 'sidewalk'"):
        data.with_classes(("road", "car"))


def test_shuffled_labels_are_those_of_another_picture_each(world: Path) -> None:
    data = read_dense_world(Tables(world, "v1.0-synth"), "synth_train")
    control = data.with_shuffled_labels(3)
    own = {pair.picture: pair.labels for pair in data.files}
    assert [pair.picture for pair in control.files] == list(own)
    assert all(pair.labels != own[pair.picture] for pair in control.files)
    assert {pair.labels for pair in control.files} == set(own.values())
    assert control.class_names == data.class_names and control.sample(0).semantic.max() < 13
    other = [pair.labels for pair in data.with_shuffled_labels(4).files]
    assert other != [pair.labels for pair in control.files]
