"""Augmented pictures: a pixel, its mask and its box move together."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.config.detection2d import PictureAugmentation, PictureConfig
from bevstack.datasets.detection2d.augmentation import LabelledPicture, augment


def marked(height: int = 60, width: int = 90) -> LabelledPicture:
    """Return a black picture with one white object, and its box and mask."""
    picture = np.zeros((height, width, 3), np.uint8)
    mask = np.zeros((1, height, width), np.uint8)
    picture[20:40, 10:50], mask[0, 20:40, 10:50] = 255, 1
    boxes = np.array([[10, 20, 50, 40]], np.float32)
    return LabelledPicture(picture, boxes, np.array([3]), mask)


def check_together(sample: LabelledPicture) -> None:
    """Check that white pixels, mask and box agree within an interpolated edge."""
    assert sample.masks is not None
    white = sample.picture[..., 0] > 127
    assert len(sample.boxes) == len(sample.masks) == len(sample.labels)
    if not len(sample.boxes):
        assert white.mean() < 0.01
        return
    assert (white != sample.masks[0]).mean() < 0.06
    rows, columns = np.nonzero(sample.masks[0])
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    # Masks take the nearest pixel, of up to 3 pixels after the picture is enlarged.
    np.testing.assert_allclose(sample.boxes[0], edges, atol=3)


def test_a_mirrored_cut_or_resized_object_keeps_its_pixels() -> None:
    sample = marked()
    for changed in (
        sample.mirrored(),
        sample.resized((120, 170)),
        sample.cut(30, 30, (25, 40)),
        sample.cut(0, 0, (10, 10)),
    ):
        check_together(changed)
    assert sample.mirrored().boxes.tolist() == [[40, 20, 80, 40]]
    assert sample.cut(30, 30, (25, 40)).boxes.tolist() == [[0, 0, 20, 10]]
    assert not len(sample.cut(0, 0, (10, 10)).boxes)


@pytest.mark.parametrize("keeps", [True, False])
def test_augmented_objects_keep_their_pixels(keeps: bool) -> None:
    config = PictureAugmentation(
        short_sides=(48, 64),
        crop_short_sides=(50, 70),
        crop_px=(20, 60),
        crop_keeps_object=keeps,
    )
    pictures = PictureConfig(long_side=120, short_side=64)
    sizes, empty = set(), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        changed = augment(marked(), config, pictures, rng)
        check_together(changed)
        sizes.add(changed.size)
        empty += not len(changed.boxes)
        assert max(changed.size) <= 120
        assert min(changed.size) <= 64
    assert len(sizes) > 5
    assert (empty == 0) == keeps


def test_boxes_without_masks_take_the_same_places() -> None:
    whole = marked()
    bare = LabelledPicture(whole.picture, whole.boxes, whole.labels, None)
    config = PictureAugmentation(short_sides=(48, 64), crop_short_sides=(50,), crop_px=(20, 60))
    pictures = PictureConfig(long_side=120, short_side=64)
    for seed in range(8):
        first, second = (
            augment(own, config, pictures, np.random.default_rng(seed)) for own in (whole, bare)
        )
        assert second.masks is None
        assert np.array_equal(first.boxes, second.boxes)


def test_the_same_draws_give_the_same_picture() -> None:
    config = PictureAugmentation(short_sides=(48, 64), crop_short_sides=(50,), crop_px=(20, 60))
    pictures = PictureConfig(long_side=120, short_side=64)
    first, second = (
        augment(marked(), config, pictures, np.random.default_rng(5)) for _ in range(2)
    )
    assert np.array_equal(first.picture, second.picture)
    assert np.array_equal(first.boxes, second.boxes)
