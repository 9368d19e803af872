"""Counts of the packaged segmenters against the released tables."""

from __future__ import annotations

import json

import pytest
import torch

from bevstack.cli.main import main
from bevstack.config.segmenters import load_segmenter
from bevstack.costs.macs import run_and_count, shapes_only
from bevstack.costs.segmentation import count_segmentation_model
from bevstack.models.segmentation.build import build_segmenter
from bevstack.models.segmentation.mask_model import MaskSegmenter
from bevstack.models.skeleton import skeleton

# GMAC of the released tables (README of the released code).
PUBLISHED = {
    "upernet_internimage_t_512_ade20k": 944,
    "upernet_internimage_s_512_ade20k": 1017,
    "upernet_internimage_b_512_ade20k": 1185,
    "upernet_internimage_l_640_ade20k": 2526,
    "upernet_internimage_xl_640_ade20k": 3142,
    "upernet_internimage_h_896_ade20k": 3566,
    "upernet_internimage_t_512x1024_cityscapes": 1889,
    "upernet_internimage_xl_512x1024_cityscapes": 4022,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_operations_equal_the_released_tables_within_half_a_per_cent(name: str):
    """They round to whole numbers, and count norms and activations of the operator otherwise."""
    assert count_segmentation_model(name).macs / 1e9 == pytest.approx(PUBLISHED[name], rel=5e-3)


# The same of Mask2Former, at the (H, W) of our counts.
PUBLISHED_MASKS = {
    "mask2former_internimage_h_896_ade20k": (4635, (896, 896)),
    "mask2former_internimage_h_896_cocostuff164k": (4635, (896, 896)),
    "mask2former_internimage_h_512_cocostuff10k": (1528, (512, 512)),
    "mask2former_internimage_h_480_pascal_context": (867, (480, 480)),
    "mask2former_internimage_h_480_nyu": (867, (480, 480)),
    "mask2former_internimage_h_1024x1024_cityscapes": (7878, (1024, 2048)),
}


@pytest.mark.parametrize("name", PUBLISHED_MASKS)
def test_operations_of_mask2former_equal_the_released_tables_without_products(name: str):
    """The released count leaves out the products of attention and of masks in the decoder."""
    published, size = PUBLISHED_MASKS[name]
    count = count_segmentation_model(name)
    assert count.image_size == size
    with skeleton():
        model = build_segmenter(load_segmenter(name)).eval()
    assert isinstance(model, MaskSegmenter)
    with shapes_only(model):
        _, stages = run_and_count(model.backbone, torch.empty(1, 3, *size))
        work, _ = run_and_count(model.decoder, model.pixel_decoder(stages))
    assert (count.macs - work.other_matmul) / 1e9 == pytest.approx(published, rel=5e-3)
    assert count.parts[-1].macs == work.total


def test_doctor_prints_counts_of_a_segmenter(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--model", "upernet_internimage_t_512_ade20k", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(part["parameters"] for part in report["parts"]) == 59_077_148
    assert report["image_size"] == [512, 2048]
    assert main(["doctor", "--model", "segformer_internimage_l_512x1024_cityscapes"]) == 0
    assert "head" in capsys.readouterr().out
    assert main(["doctor", "--model", "upernet_internimage_t"]) == 2
    assert "upernet_internimage_t_512_ade20k" in capsys.readouterr().err
