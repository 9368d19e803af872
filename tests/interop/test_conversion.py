"""Conversion of published files to detectors: recognised conventions, and backbones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bevstack.config import Config, FPNConfig, InternImageConfig, ResNetConfig, load_config
from bevstack.config.internimage import INTERNIMAGE_VARIANTS, classification_config
from bevstack.interop.conversion import (
    Allowed,
    backbone_from_public,
    choose_box_convention,
    convert_backbone,
    convert_detector,
)
from bevstack.interop.internimage_names import ours_to_official
from bevstack.interop.published_files import PublishedFile
from bevstack.models.backbones.resnet import ResNet
from bevstack.models.build import build_model
from bevstack.models.classification.internimage_heads import InternImageClassifier
from tests.conftest import shared_dir

SMALL = load_config("tiny_cpu")


def listed_keys(variant: str, setting: str) -> dict[str, Tensor]:
    """Return every tensor of a released InternImage, on the meta device."""
    shared = shared_dir()
    assert shared is not None
    path = shared / "oracle" / "internimage" / f"state_dict_keys_{variant}.json"
    keys = json.loads(path.read_text(encoding="utf-8"))[setting]["keys"]
    return {key: torch.empty(shape, device="meta") for key, shape in keys.items()}


def hugging_face(keys: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{key.replace('gamma', 'layer_scale')}": v for key, v in keys.items()}


def detector(keys: Mapping[str, Tensor], *parts: str) -> dict[str, Tensor]:
    """Add the other parts of a detector or segmenter to a backbone."""
    other_parts = {f"{part}.conv.weight": torch.empty(3, 2, 1, 1, device="meta") for part in parts}
    return {**{f"backbone.{key}": value for key, value in keys.items()}, **other_parts}


def file_of(tensors: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None) -> PublishedFile:
    return PublishedFile("weights.pth", dict(tensors), meta or {})


def config_of(backbone: InternImageConfig | ResNetConfig) -> Config:
    return replace(SMALL, backbone=backbone, fpn=FPNConfig(num_outputs=3, channels=64))


def backbone_names(config: Config) -> set[str]:
    with torch.device("meta"):
        names = build_model(config).state_dict().keys()
    return {name for name in names if name.startswith("backbone.")}


WRAPPINGS: dict[str, tuple[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
    "classification": ("classification", dict),
    "hugging_face": ("classification", hugging_face),
    "mask_rcnn": ("detection", lambda keys: detector(keys, "neck", "rpn_head", "roi_head")),
    "cascade": ("detection", lambda keys: detector(keys, "neck", "rpn_head", "roi_head.0")),
    "upernet": ("detection", lambda keys: detector(keys, "decode_head", "auxiliary_head")),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(v, marks=pytest.mark.oracle(f"state_dict_keys_{v}"))
        for v in ("T", "S", "B", "L", "XL")
    ],
)
def test_every_key_of_released_backbones_has_a_counterpart(variant: str, wrapping: str) -> None:
    setting, wrap = WRAPPINGS[wrapping]
    published = wrap(listed_keys(variant, setting))
    config = config_of(INTERNIMAGE_VARIANTS[f"internimage_{variant.lower()}"])
    state, report, notes = backbone_from_public(file_of(published), config, Allowed())
    scales = {name for name in backbone_names(config) if "gamma" in name}
    bare = variant == "T" and setting == "classification"  # its ImageNet weights have no scales
    assert set(report.missing) == (scales if bare else set())
    assert len(notes) == bare
    assert state.keys() == backbone_names(config) - set(report.missing)
    heads = {"conv_head", "head"} if setting == "classification" else {"neck", "decode_head"}
    assert heads & {name.removeprefix("model.").split(".")[0] for name in report.left_over}
    assert not [name for name in report.left_over if "patch_embed" in name or "levels" in name]


@pytest.mark.parametrize("variant", ["internimage_h", "internimage_g"])
def test_every_key_of_large_backbones_has_a_counterpart(variant: str) -> None:
    with torch.device("meta"):
        ours = InternImageClassifier(classification_config(variant)).state_dict()
    published = {str(ours_to_official(name)): value for name, value in ours.items()}
    config = config_of(INTERNIMAGE_VARIANTS[variant])
    state, report, _ = backbone_from_public(file_of(published), config, Allowed())
    assert state.keys() == backbone_names(config)
    left = {name.split(".")[0] for name in report.left_over}
    assert left == {"dcnv3_head_x3", "dcnv3_head_x4", "clip_projector", "fc_norm", "head"}


def small_classifier() -> tuple[InternImageClassifier, dict[str, Tensor]]:
    torch.manual_seed(3)
    assert isinstance(SMALL.backbone, InternImageConfig)
    classifier = InternImageClassifier(SMALL.backbone, num_classes=5)
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = classifier.state_dict()
    return classifier.eval(), {str(ours_to_official(name)): value for name, value in state.items()}


def test_a_detector_starts_with_the_features_of_a_classifier() -> None:
    classifier, published = small_classifier()
    converted = convert_backbone(file_of(published), SMALL)
    images = torch.randn(2, 3, 40, 72)
    with torch.no_grad():
        (wanted,) = classifier.backbone(images)  # the last stage
        got = converted.model.backbone(images)
    assert torch.equal(got[-1], wanted)
    torch.manual_seed(SMALL.training.seed)
    fresh = build_model(SMALL).state_dict()
    rest = {n: v for n, v in converted.model.state_dict().items() if not n.startswith("backbone.")}
    assert all(torch.equal(fresh[name], value) for name, value in rest.items())
    assert converted.config == SMALL and not converted.report.missing


def test_a_name_within_the_backbone_without_counterpart_is_refused_unless_allowed() -> None:
    _, published = small_classifier()
    extra = {**published, "levels.0.blocks.0.adapter.weight": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"1 left over: levels\.0\.blocks\.0\.adapter\.weight"):
        convert_backbone(file_of(extra), SMALL)
    allowed = Allowed(left_over=["levels.0.blocks.0.adapter."])
    assert convert_backbone(file_of(extra), SMALL, allowed=allowed).report.left_over[-1] == (
        "levels.0.blocks.0.adapter.weight"
    )
    del published["levels.1.norm.0.bias"]
    with pytest.raises(ValueError, match=r"1 missing: backbone\.levels\.1\.norm\.bias"):
        convert_backbone(file_of(published), SMALL)
    allowed = Allowed(missing=["backbone.levels.1.norm."])
    assert convert_backbone(file_of(published), SMALL, allowed=allowed).report.missing == (
        "backbone.levels.1.norm.bias",
    )


def test_layer_scales_that_do_not_start_at_one_may_not_be_missing() -> None:
    _, published = small_classifier()
    assert isinstance(SMALL.backbone, InternImageConfig)
    unit = config_of(replace(SMALL.backbone, layer_scale=1.0))
    assert "start at 1" in convert_backbone(file_of(published), unit).notes[0]
    small = config_of(replace(SMALL.backbone, layer_scale=1e-5))
    with pytest.raises(ValueError, match=r"10 missing: backbone\.levels\.0\.blocks\.0\.gamma1"):
        convert_backbone(file_of(published), small)
    one = {**published, "levels.0.blocks.0.gamma1": torch.ones(16)}
    with pytest.raises(ValueError, match="9 missing"):
        convert_backbone(file_of(one), unit)


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        (("backbone.cb_modules.0.", "backbone.cb_modules.1."), "must hold one backbone"),
        (("backbone.cb_modules.0.",), r"ends with backbone\.; got 'backbone.cb_modules.0.'"),
        (("teacher.backbone.",), r"ends with backbone\.; got 'teacher.backbone.'"),
        ((), r"must hold one backbone of the configuration's kind.*; got none"),
    ],
)
def test_composite_and_foreign_backbones_are_refused(
    prefixes: tuple[str, ...], message: str
) -> None:
    _, published = small_classifier()
    tensors = {prefix + name: value for prefix in prefixes for name, value in published.items()}
    with pytest.raises(ValueError, match=message):
        convert_backbone(file_of(tensors), SMALL)


def test_another_size_is_refused_by_name_and_shape() -> None:
    _, published = small_classifier()
    assert isinstance(SMALL.backbone, InternImageConfig)
    wide = config_of(replace(SMALL.backbone, channels=32))
    with pytest.raises(ValueError, match=r"patch_embed\.conv1\.weight must have shape \(16, 3, 3"):
        convert_backbone(file_of(published), wide)


def small_resnet() -> tuple[Config, dict[str, Tensor]]:
    config = config_of(ResNetConfig(base_channels=4, norm="BN"))
    return config, ResNet(ResNetConfig(base_channels=4, norm="BN")).state_dict()


@pytest.mark.parametrize("prefix", ["img_backbone.", "backbone."])
def test_the_resnet_of_a_detector_is_accepted(prefix: str) -> None:
    config, plain = small_resnet()
    tensors = {**{prefix + n: v for n, v in plain.items()}, "bbox_head.x": torch.ones(1)}
    converted = convert_backbone(file_of(tensors, {"config": "style='caffe'"}), config)
    ours = converted.model.backbone.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in plain.items())
    assert converted.report.left_over == ("bbox_head.x",)


def test_resnets_of_another_style_are_refused() -> None:
    config, plain = small_resnet()
    with pytest.raises(ValueError, match=r"caffe style .*; got weights\.pth, a classifier's"):
        convert_backbone(file_of(plain), config)
    tensors = {f"backbone.{name}": value for name, value in plain.items()}
    with pytest.raises(ValueError, match="style 'pytorch'"):
        convert_backbone(file_of(tensors, {"config": "dict(style='pytorch')"}), config)


@pytest.mark.parametrize(
    ("meta", "named", "expected"),
    [
        ({"mmdet3d_version": "0.17.1"}, None, "legacy"),
        ({"mmdet_version": "2.14.0"}, None, "legacy"),
        ({}, None, "legacy"),
        ({"mmdet3d_version": "1.0.0rc4"}, "modern", "modern"),
        ({"mmengine_version": "0.10.1"}, "legacy", "legacy"),
        ({"mmdet3d_version": "0.17.1"}, "modern", "modern"),
    ],
)
def test_box_convention_is_as_named_or_by_the_metadata(
    meta: dict[str, str], named: str | None, expected: str
) -> None:
    assert choose_box_convention(meta, named)[0] == expected


@pytest.mark.parametrize(
    "meta", [{"mmdet3d_version": "1.0.0rc4"}, {"mmdet3d_version": "1.4.0"}, {"mmengine_version": 1}]
)
def test_modern_boxes_are_refused_unless_named(meta: dict[str, str]) -> None:
    file = file_of({"pts_bbox_head.bev_embedding.weight": torch.zeros(1)}, meta)
    with pytest.raises(ValueError, match=r"box convention must be named.*--boxes modern"):
        convert_detector(file, SMALL)
    with pytest.raises(ValueError, match="boxes must be one of"):
        convert_detector(file, SMALL, boxes="kitti")


def test_a_backbone_file_is_refused_as_a_detector() -> None:
    _, published = small_classifier()
    with pytest.raises(ValueError, match=r"must hold a BEVFormer v2 detector.*add --backbone"):
        convert_detector(file_of(published), SMALL)
