"""Preparation of pictures for labels of pixels against the released pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.config.loading import load_task_config
from bevstack.config.segmentation import SEGMENTATION, LabelledSizeConfig, SegmentationConfig
from bevstack.datasets.images import read_image
from bevstack.datasets.segmentation.prepare import prepare_labelled
from tests import internimage_heads_oracle as oracle
from tests.conftest import shared_dir

CONFIG_OF_PIPELINE = {
    "seg_ade_2048x512": "upernet_internimage_t_512_ade20k",
    "seg_ade_2560x640": "upernet_internimage_l_640_ade20k",
    "seg_cityscapes_2048x1024": "upernet_internimage_t_512x1024_cityscapes",
}


@pytest.mark.parametrize("name", oracle.cases("pipeline", name="pipeline_seg"))
def test_prepared_pictures_equal_the_stored_ones(name: str) -> None:
    stored, case = oracle.arrays(name), oracle.manifest()[name]
    shared = shared_dir()
    assert shared is not None
    for key, info in case["info"].items():
        path = shared / "data" / info["file"]
        if not path.is_file():
            pytest.skip(f"no picture {path}")
        packaged = CONFIG_OF_PIPELINE[key.rpartition("_")[0]]
        config = load_task_config(SegmentationConfig, SEGMENTATION, packaged)
        image = prepare_labelled(read_image(path), config.pictures)
        assert tuple(image.shape) == tuple(info["shape"]), key
        oracle.assert_close(key, image[:, 5::16, 3::16], stored[f"{key}_sub16"], 1e-5)
        sums = image.double().sum((1, 2)).numpy()
        np.testing.assert_allclose(sums, info["sum"], rtol=1e-5)


def test_pictures_of_any_size_and_scale_have_sides_of_the_multiple() -> None:
    config = LabelledSizeConfig(long_side=96, short_side=64)
    for size in ((1, 1), (1, 300), (37, 53)):
        for ratio in (0.5, 1.0, 1.75):
            shape = prepare_labelled(np.zeros((*size, 3), np.uint8), config, ratio=ratio).shape
            assert all(side % 32 == 0 for side in shape[1:]) and shape[2] <= 192
    with pytest.raises(ValueError, match="picture must be an array of uint8"):
        prepare_labelled(np.zeros((4, 4), np.uint8), config)
    with pytest.raises(ValueError, match="ratio must be positive; got 0"):
        prepare_labelled(np.zeros((4, 4, 3), np.uint8), config, ratio=0)
