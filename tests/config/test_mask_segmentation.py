"""Contradictions in configurations of Mask2Former, and the kinds of segmenters in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from bevstack.config.internimage import detection_config
from bevstack.config.mask_segmentation import MaskHeadConfig, MaskSegmentationConfig
from bevstack.config.segmentation import SegmentationConfig
from bevstack.config.segmenters import (
    find_segmenter,
    load_segmenter,
    segmenter_from_json,
    segmenter_to_json,
)
from bevstack.config.serialization import config_to_json


def whole(**fields: object) -> MaskSegmentationConfig:
    values = {"name": "x", "class_names": ("a", "b"), **fields}
    return MaskSegmentationConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskHeadConfig(channels=100), r"channels must be a multiple of num_heads"),
        (lambda: MaskHeadConfig(norm_groups=48), r"norm_groups must divide 256 channels"),
        (lambda: MaskHeadConfig(num_queries=0), r"num_queries must be positive"),
        (lambda: MaskHeadConfig(decoder_layers=0), r"decoder_layers must be positive"),
        (lambda: MaskHeadConfig(uncertain_share=1.1), r"uncertain_share must lie in \[0, 1\]"),
        (lambda: MaskHeadConfig(oversampling=0.5), r"oversampling must be at least 1"),
        (lambda: MaskHeadConfig(sampled_points=10**9), r"sampled_points must be at most"),
        (lambda: MaskHeadConfig(empty_weight=-1.0), r"empty_weight must be >= 0"),
        (lambda: whole(class_names=()), r"class_names must name at least one class"),
        (lambda: whole(class_names=("a", "a")), r"class_names must name each class once"),
        (lambda: whole(class_names=tuple(map(str, range(256)))), r"at most 255 classes"),
        (
            lambda: whole(backbone=load_segmenter("upernet_internimage_t_512_ade20k").head),
            r"backbone must be InternImageConfig",
        ),
    ],
)
def test_contradictions_are_refused_by_field(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_stages_that_the_pixel_decoder_lacks_are_refused() -> None:
    backbone = replace(detection_config("internimage_t"), out_indices=(1, 2, 3))
    with pytest.raises(ValueError, match=r"out_indices must be \(0, 1, 2, 3\)"):
        whole(backbone=backbone)


def test_json_holds_the_kind_and_older_files_without_it_are_of_the_first_kind() -> None:
    config = load_segmenter("upernet_internimage_t_512_ade20k")
    assert isinstance(config, SegmentationConfig)
    assert segmenter_from_json(config_to_json(config)) == config  # as files before Mask2Former
    text = segmenter_to_json(whole())
    assert json.loads(text)["kind"] == "MaskSegmentationConfig"
    assert segmenter_from_json(text) == whole()
    with pytest.raises(ValueError, match=r"kind must be one of"):
        segmenter_from_json(text.replace("MaskSegmentationConfig", "Mystery"))
    with pytest.raises(ValueError, match="did you mean 'num_queries'"):
        segmenter_from_json(text.replace("num_queries", "num_query"))


def test_a_name_of_another_task_is_no_segmenter() -> None:
    assert find_segmenter("mask_rcnn_nano") is None
    found = find_segmenter("mask2former_internimage_h_480_nyu", ["head.num_queries=50"])
    assert isinstance(found, MaskSegmentationConfig) and found.head.num_queries == 50
