"""Augmented batches of pictures with labelled pixels."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bevstack.config.loading import load_task_config
from bevstack.config.segmentation import (
    SEGMENTATION,
    LabelAugmentation,
    LabelledSizeConfig,
    SegmentationConfig,
)
from bevstack.datasets.detection2d.prepare import MEAN, STD
from bevstack.datasets.segmentation.ade20k import read_ade20k
from bevstack.datasets.segmentation.augmentation import augment_labelled, largest_share
from bevstack.datasets.segmentation.stream import LabelStream
from bevstack.types.label_maps import LabelBatch, LabelledPicture
from tests.datasets.segmentation.label_files import write_ade20k, write_array

SIZES = LabelledSizeConfig(long_side=96, short_side=64, multiple=1)
PLAIN = LabelAugmentation(
    resize=(1.0, 1.0), crop_px=(40, 56), max_share=1.0, mirror=False, photometric=False
)


def squares(height: int = 64, width: int = 96) -> LabelledPicture:
    """Return a picture whose colour is a function of its label: squares of 16 pixels."""
    rows, columns = np.mgrid[:height, :width] // 16
    labels = ((3 * rows + columns) % 11).astype(np.uint8)
    image = np.stack([20 * labels, 255 - 20 * labels, 7 * labels], -1).astype(np.uint8)
    return LabelledPicture(image=image, semantic=labels)


def disagreement(changed: LabelledPicture, *, edge: int = 0) -> float:
    """Return the share of pixels whose colour is not that of their label, apart from edges.

    Args:
        changed: the picture.
        edge: pixels on both sides of an edge of labels that do not count.
    """
    colors, labels = np.rint(changed.image[..., 0] / 20), changed.semantic
    kernel = np.ones((2 * edge + 1, 2 * edge + 1), np.uint8)
    inside = cv2.erode(labels, kernel) == cv2.dilate(labels, kernel)
    if edge:  # the neighbour of a pixel at the border may lie outside of the cut
        inside[:edge] = inside[-edge:] = inside[:, :edge] = inside[:, -edge:] = False
    assert inside.sum() > 100
    return float((colors != labels)[inside].mean())


def test_a_pixel_and_its_label_move_together_through_every_change() -> None:
    rng = np.random.default_rng(0)
    shapes, mirrored = set(), []
    config = replace(PLAIN, resize=(0.5, 2.0), mirror=True)
    for _ in range(40):
        changed = augment_labelled(squares(), config, SIZES, rng)
        shapes.add(changed.semantic.shape)
        # Interpolation mixes the colours of two squares within two pixels of their edge.
        assert disagreement(changed, edge=2) == 0
        wrong = LabelledPicture(image=changed.image, semantic=changed.semantic[:, ::-1].copy())
        mirrored.append(disagreement(wrong, edge=2))
    assert min(mirrored) > 0.3  # the check notices a picture that moved without its labels
    assert (40, 56) in shapes and len(shapes) > 3


def test_without_a_change_of_size_colours_equal_their_labels_exactly() -> None:
    for seed in range(8):
        config = replace(PLAIN, mirror=True)
        changed = augment_labelled(squares(), config, SIZES, np.random.default_rng(seed))
        assert changed.semantic.shape == (40, 56) and disagreement(changed) == 0


def test_colours_change_the_picture_and_no_label() -> None:
    first = augment_labelled(squares(), PLAIN, SIZES, np.random.default_rng(5))
    second = augment_labelled(
        squares(), replace(PLAIN, photometric=True), SIZES, np.random.default_rng(5)
    )
    np.testing.assert_array_equal(first.semantic, second.semantic)
    assert (first.image != second.image).any()


def test_a_cut_is_drawn_again_while_one_class_has_too_large_a_share() -> None:
    labels = np.zeros((64, 96), np.uint8)
    labels[:, 80:] = 1  # a cut of 16 columns shows both classes at columns 65 to 95 alone
    picture = LabelledPicture(image=np.zeros((64, 96, 3), np.uint8), semantic=labels)
    config = replace(PLAIN, crop_px=(64, 16), max_share=0.95)
    shares = [
        largest_share(augment_labelled(picture, c, SIZES, np.random.default_rng(n)).semantic)
        for c in (config, replace(config, max_share=1.0))
        for n in range(30)
    ]
    assert np.mean(np.array(shares[:30]) < 0.95) > 0.8 > np.mean(np.array(shares[30:]) < 0.95)
    assert largest_share(np.full((3, 3), 255, np.uint8)) == 1.0
    assert largest_share(np.array([[255, 2, 2, 7]], np.uint8)) == pytest.approx(2 / 3)


def config_and_data(folder: Path, **changes: object) -> tuple[SegmentationConfig, Path]:
    config = load_task_config(SegmentationConfig, SEGMENTATION, "upernet_internimage_t_512_ade20k")
    config = replace(
        config,
        pictures=SIZES,
        label_augmentation=replace(PLAIN, crop_px=(72, 64), resize=(0.5, 1.0)),
        training=replace(config.training, batch_size=2, num_workers=0, seed=3, **changes),
    )
    labels = [squares().semantic + 1, squares(64, 80).semantic + 1]
    return config, write_ade20k(folder, labels)


def take(config: SegmentationConfig, root: Path, start: int, count: int) -> list[LabelBatch]:
    data = read_ade20k(root, "validation")
    stream = LabelStream(data, config, recipe=config.training, start=start)
    return list(itertools.islice(stream, count))


def test_batches_depend_on_the_position_alone(tmp_path: Path) -> None:
    config, root = config_and_data(tmp_path)
    whole, rest = take(config, root, 0, 4), take(config, root, 4, 2)
    for first, second in zip(whole[2:], rest, strict=True):
        assert first.names == second.names and len(set(first.names)) == 2
        assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert not torch.equal(whole[0].images, whole[1].images)


def test_padding_is_zero_after_normalisation_and_has_no_label(tmp_path: Path) -> None:
    config, root = config_and_data(tmp_path)
    batch = take(config, root, 0, 1)[0]
    assert batch.images.shape == (2, 3, 72, 64) and batch.labels.dtype == torch.int64
    for image, labels in zip(batch.images, batch.labels, strict=True):
        padded = labels == 255
        assert padded[-8:].all() and not padded[0, 0]  # pictures have at most 64 rows
        assert (image[:, padded] == 0).all()
        lowest = torch.tensor(-MEAN / STD)[:, None]
        assert (image[:, ~padded] >= lowest - 1e-5).all()


def test_a_damaged_label_map_stops_or_is_skipped_by_name(tmp_path: Path) -> None:
    config, root = config_and_data(tmp_path)
    write_array(root / "annotations/validation/ADE_val_00000002.png", np.ones((3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"size of its picture.*sample ADE_val_00000002.jpg"):
        take(config, root, 0, 1)
    config, _ = config_and_data(tmp_path / "whole", on_bad_sample="skip")
    data = read_ade20k(root, "validation")
    stream = LabelStream(data, config, recipe=config.training)
    batch = next(iter(stream))
    assert batch.names == ("ADE_val_00000001.jpg",) * 2
    assert {skip.sample_token for skip in stream.skipped} == {"ADE_val_00000002.jpg"}


def test_processes_share_a_batch(tmp_path: Path) -> None:
    config, root = config_and_data(tmp_path)
    data = read_ade20k(root, "validation")
    (whole,) = take(config, root, 0, 1)
    parts = [
        next(iter(LabelStream(data, config, recipe=config.training, rank=rank, world_size=2)))
        for rank in (0, 1)
    ]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    with pytest.raises(ValueError, match="times 3 processes"):
        LabelStream(data, config, recipe=config.training, world_size=3)
