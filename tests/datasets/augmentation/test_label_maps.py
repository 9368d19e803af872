"""Augmentation of pictures with label maps: a pixel and its labels stay together."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.datasets.augmentation.label_maps import (
    crop_labelled,
    mirror_labelled,
    resize_labelled,
)
from bevstack.types.label_maps import LabelledPicture


@pytest.fixture
def picture() -> LabelledPicture:
    """Return a picture whose red value is its label and whose depth is a tenth of it."""
    labels = np.random.default_rng(0).integers(0, 200, (37, 53)).astype(np.uint8)
    return coded(np.repeat(np.repeat(labels, 5, 0), 5, 1))


def coded(labels: np.ndarray) -> LabelledPicture:
    image = np.stack([labels, 255 - labels, labels // 2], axis=2)
    return LabelledPicture(image=image, semantic=labels, depth_m=(labels / 10).astype(np.float32))


def check(picture: LabelledPicture) -> None:
    assert (picture.image[..., 0] == picture.semantic).all()
    assert picture.depth_m is not None
    assert np.abs(picture.depth_m - picture.semantic / np.float32(10)).max() < 1e-5


def test_mirror_moves_pixel_depth_and_label_together(picture: LabelledPicture):
    mirrored = mirror_labelled(picture)
    check(mirrored)
    assert (mirrored.semantic[:, 3] == picture.semantic[:, -4]).all()


def test_crop_keeps_pixels_with_labels_and_leaves_the_rest_unlabelled(picture: LabelledPicture):
    cut = crop_labelled(picture, (11, 200), (90, 100))
    check(
        LabelledPicture(
            image=cut.image[:, :65], semantic=cut.semantic[:, :65], depth_m=cut.depth_m[:, :65]
        )
    )
    assert cut.semantic[4, 7] == picture.semantic[15, 207]
    assert (cut.semantic[:, 65:] == 255).all() and (cut.image[:, 65:] == 0).all()
    assert np.isnan(cut.depth_m[:, 65:]).all()
    with pytest.raises(ValueError, match="window must start within the picture"):
        crop_labelled(picture, (185, 0), (4, 4))


@pytest.mark.parametrize("size", [(74, 106), (185 * 2, 265 * 2), (111, 159), (185, 265)])
def test_resize_keeps_the_middle_of_every_square_with_its_label(
    picture: LabelledPicture, size: tuple[int, int]
):
    resized = resize_labelled(picture, size)
    assert resized.semantic.shape == resized.image.shape[:2] == size
    # Squares of 5 pixels: the pixels nearest to their middles are at least a pixel from a border,
    # where the image is interpolated between two squares.
    rows = ((np.arange(37) + 0.5) * size[0] / 37).astype(int)
    columns = ((np.arange(53) + 0.5) * size[1] / 53).astype(int)
    squares = np.ix_(rows, columns)
    assert (resized.semantic[squares] == picture.semantic[2::5, 2::5]).all()
    assert np.abs(resized.depth_m[squares] - picture.depth_m[2::5, 2::5]).max() == 0
    difference = resized.image[..., 0][squares].astype(int) - resized.semantic[squares]
    assert np.abs(difference).max() <= (0 if size[0] >= 111 else 60)


def test_labels_of_a_step_stay_at_the_step_of_the_image():
    """Find the border of two halves at the same place in image and labels at odd factors."""
    halves = coded(np.tile(np.where(np.arange(90) < 45, 0, 200).astype(np.uint8), (30, 1)))
    for width in (61, 90, 133, 271):
        resized = resize_labelled(halves, (30, width))
        border = int((resized.semantic[0] == 0).sum())
        half = int((resized.image[0, :, 0] < 100).sum())
        assert abs(border - half) <= 1 and abs(border - width / 2) <= 0.5, width
