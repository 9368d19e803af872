from __future__ import annotations

import re

import pytest
import torch

from bevstack.config.internimage import INTERNIMAGE_VARIANTS, classification_config
from bevstack.interop.internimage_names import RENAMES, official_to_ours, ours_to_official
from bevstack.models.classification.internimage_heads import InternImageClassifier

BLOCK = "levels.2.blocks.13."


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ("patch_embed.norm1.1.weight", "backbone.patch_embed.norm1.weight"),
        ("patch_embed.norm2.1.bias", "backbone.patch_embed.norm2.bias"),
        (BLOCK + "gamma2", f"backbone.{BLOCK}gamma2"),
        (BLOCK + "norm1.0.bias", f"backbone.{BLOCK}norm1.bias"),
        (BLOCK + "res_post_norm2.0.weight", f"backbone.{BLOCK}res_post_norm2.weight"),
        (BLOCK + "dcn.dw_conv.0.weight", f"backbone.{BLOCK}dcn.dw_conv.weight"),
        (BLOCK + "dcn.dw_conv.1.1.weight", f"backbone.{BLOCK}dcn.dw_norm.weight"),
        (
            BLOCK + "dcn.center_feature_scale_proj_weight",
            f"backbone.{BLOCK}dcn.center_feature_scale.weight",
        ),
        (BLOCK + "mlp.fc2.weight", f"backbone.{BLOCK}mlp.fc2.weight"),
        ("levels.2.post_norms.7.0.bias", "backbone.levels.2.post_norms.7.bias"),
        ("levels.0.norm.0.weight", "backbone.levels.0.norm.weight"),
        ("levels.1.downsample.norm.1.weight", "backbone.levels.1.downsample.norm.weight"),
        ("conv_head.0.weight", "head.conv.weight"),
        ("conv_head.1.0.running_var", "head.norm.running_var"),
        ("dcnv3_head_x4.0.bias", "head.project_coarse.bias"),
        ("dcnv3_head_x3.weight", "head.project_fine.weight"),
        ("clip_projector.norm1_k.0.weight", "head.pool.norm_k.weight"),
        ("clip_projector.cross_dcn.v_bias", "head.pool.attention.v_bias"),
        ("clip_projector.cross_dcn.q.weight", "head.pool.attention.q.weight"),
        ("clip_projector.cross_dcn.proj.bias", "head.pool.attention.proj.bias"),
        ("fc_norm.0.weight", "head.fc_norm.weight"),
        ("head.bias", "head.fc.bias"),
    ],
)
def test_names_are_translated_in_both_directions(official: str, ours: str) -> None:
    assert official_to_ours(official) == ours
    assert ours_to_official(ours) == official


@pytest.mark.parametrize(
    "wrapper",
    [
        "",
        "module.",
        "model.",
        "backbone.",
        "img_backbone.",
        "module.backbone.",
        "state_dict.model.",
    ],
)
def test_wrappers_of_published_files_are_removed(wrapper: str) -> None:
    assert official_to_ours(f"{wrapper}levels.0.norm.0.bias") == "backbone.levels.0.norm.bias"
    assert official_to_ours(f"{wrapper}head.weight") == "head.fc.weight"


def test_hugging_face_layer_scales_are_the_released_gammas() -> None:
    assert official_to_ours("model.levels.3.blocks.0.layer_scale1") == (
        "backbone.levels.3.blocks.0.gamma1"
    )


def test_batch_norm_has_a_list_position_one_lower() -> None:
    for official, ours in (
        ("patch_embed.norm2.0.running_mean", "backbone.patch_embed.norm2.running_mean"),
        (BLOCK + "dcn.dw_conv.1.0.bias", f"backbone.{BLOCK}dcn.dw_norm.bias"),
        ("levels.0.downsample.norm.0.weight", "backbone.levels.0.downsample.norm.weight"),
    ):
        assert official_to_ours(official) == ours


@pytest.mark.parametrize(
    "foreign",
    [
        "neck.fpn_convs.0.conv.weight",
        "rpn_head.rpn_cls.weight",
        "backbone.cb_modules.0.patch_embed.conv1.weight",
        "levels.0.blocks.0.dcn.offset.running_scale",
        "levels.0.blocks.0.norm3.0.weight",
        "patch_embed.norm1.2.weight",
        "head",
        "",
    ],
)
def test_foreign_names_have_no_counterpart(foreign: str) -> None:
    assert official_to_ours(foreign) is None


@pytest.mark.parametrize("variant", INTERNIMAGE_VARIANTS)
def test_every_parameter_of_every_size_has_one_published_name(variant: str) -> None:
    with torch.device("meta"):
        keys = list(InternImageClassifier(classification_config(variant)).state_dict())
    official = [ours_to_official(key) for key in keys]
    assert None not in official
    assert len(set(official)) == len(keys)
    assert [official_to_ours(key) for key in official] == keys
    counts = {"internimage_h": 1357, "internimage_g": 1295}
    assert len(keys) == counts.get(variant, len(keys))


def test_each_row_keeps_its_placeholders() -> None:
    for official, ours in RENAMES:
        assert sorted(re.findall(r"\{(\w)\}", official)) == sorted(re.findall(r"\{(\w)\}", ours))
