"""Preparation of pictures against the stored pipeline of the released code, and stacking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bevstack.config.detection2d import PictureConfig
from bevstack.datasets.detection2d.prepare import (
    fitted_size,
    picture_size,
    prepare_picture,
    stack_pictures,
)
from bevstack.datasets.images import read_image
from bevstack.types.pictures2d import PictureObjects
from tests import internimage_heads_oracle as oracle
from tests.conftest import shared_dir


@pytest.mark.parametrize("name", oracle.cases("pipeline", name="pipeline_det"))
def test_prepared_pictures_equal_the_stored_ones(name: str) -> None:
    stored, case = oracle.arrays(name), oracle.manifest()[name]
    shared = shared_dir()
    assert shared is not None
    for key, info in case["info"].items():
        path = shared / "data" / info["file"]
        if not path.is_file():
            pytest.skip(f"no picture {path}")
        long_side, short_side = (int(side) for side in key.split("_")[1].split("x"))
        config = PictureConfig(long_side=long_side, short_side=short_side)
        image, size = prepare_picture(read_image(path), config)
        assert (*size.original, 3) == tuple(info["ori_shape"])
        assert (*size.resized, 3) == tuple(info["img_shape"])
        assert (*size.padded, 3) == tuple(info["pad_shape"])
        assert size.scale().tolist() == info["scale_factor"]
        padded = stack_pictures([image], [size], [key]).images[0]
        assert tuple(padded.shape) == tuple(info["shape"])
        oracle.assert_close(key, padded[:, 5::16, 3::16], stored[f"{key}_sub16"], 1e-5)
        sums = padded.double().sum((1, 2)).numpy()
        np.testing.assert_allclose(sums, info["sum"], rtol=1e-5)
        assert float(padded.double().abs().sum()) == pytest.approx(info["abs_sum"], rel=1e-6)


def test_sides_are_rounded_and_within_the_limits() -> None:
    assert fitted_size((426, 640), long_side=1333, short_side=800) == (800, 1202)
    assert fitted_size((100, 1000), long_side=1333, short_side=800) == (133, 1333)
    assert fitted_size((1, 1), long_side=64, short_side=32) == (32, 32)
    assert fitted_size((1, 10_000), long_side=64, short_side=32) == (1, 64)


def test_stacked_pictures_are_padded_right_and_below() -> None:
    config = PictureConfig(long_side=48, short_side=40, pad_to=16)
    sizes = [picture_size((4, 3), (20, 30), config), picture_size((4, 3), (33, 16), config)]
    images = [torch.ones(3, *size.resized) for size in sizes]
    masks = torch.ones(1, 20, 30, dtype=torch.uint8)
    objects = [
        PictureObjects(boxes=torch.zeros(1, 4), labels=torch.zeros(1).long(), masks=masks),
        PictureObjects(boxes=torch.zeros(0, 4), labels=torch.zeros(0).long()),
    ]
    batch = stack_pictures(images, sizes, ["a", "b"], objects, [1, 2])
    assert batch.images.shape == (2, 3, 48, 32)
    assert batch.images[0].sum() == 3 * 20 * 30
    assert batch.images[1, :, :33, :16].all()
    assert batch.objects[0].masks is not None
    assert batch.objects[0].masks.shape == (1, 48, 32)
    assert int(batch.objects[0].masks.sum()) == 20 * 30


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"picture must be an array of uint8 .* got"):
        prepare_picture(picture, PictureConfig())
