"""Counts of the packaged segmenters against the released tables."""

from __future__ import annotations

import json

import pytest

from bevstack.cli.main import main
from bevstack.costs.segmentation import count_segmentation_model

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


def test_doctor_prints_counts_of_a_segmenter(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--model", "upernet_internimage_t_512_ade20k", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(part["parameters"] for part in report["parts"]) == 59_077_148
    assert report["image_size"] == [512, 2048]
    assert main(["doctor", "--model", "segformer_internimage_l_512x1024_cityscapes"]) == 0
    assert "head" in capsys.readouterr().out
    assert main(["doctor", "--model", "upernet_internimage_t"]) == 2
    assert "upernet_internimage_t_512_ade20k" in capsys.readouterr().err
