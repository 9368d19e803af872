from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from bevstack.config.internimage import (
    INTERNIMAGE_VARIANTS,
    InternImageConfig,
    classification_config,
    detection_config,
)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"channels": 65}, "channels must be even and positive; got 65"),
        ({"channels": 0}, "channels must be even and positive; got 0"),
        (
            {"depths": ()},
            "depths must be a positive number of layers for each of 1 to 8 stages; got ()",
        ),
        (
            {"depths": (4, 0, 2, 1)},
            "depths must be a positive number of layers for each of 1 to 8 stages; got (4, 0",
        ),
        ({"groups": (4, 8, 16)}, "groups must have one entry for each of the 4 depths; got"),
        ({"groups": (4, 8, 17, 32)}, "groups[2] must divide the stage's 256 channels; got 17"),
        ({"groups": (4, 8, 0, 32)}, "groups[2] must divide the stage's 256 channels; got 0"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must give at least one hidden channel; got 0.0"),
        ({"class_scale": -1.0}, "class_scale must be positive; got -1.0"),
        (
            {"dw_kernel_size": 4},
            "dw_kernel_size must be odd, so that the map keeps its size; got 4",
        ),
        ({"norm_layer": "IN"}, "norm_layer must be one of ('LN', 'BN', 'SyncBN', 'GN'); got 'IN'"),
        (
            {"norm_layer": "GN", "norm_groups": 5},
            "norm_groups must divide the stem's 32 channels for norm_layer 'GN'; got 5",
        ),
        ({"act_layer": "gelu"}, "act_layer must be one of ('GELU', 'ReLU', 'SiLU'); got 'gelu'"),
        ({"drop_path_type": "cosine"}, "drop_path_type must be one of ('linear', 'uniform'); got"),
        ({"classification_head": "clip"}, "classification_head must be one of ('conv', 'attention"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must lie in [0, 1); got 1.0"),
        (
            {"post_norm": True, "res_post_norm": True},
            "post_norm must be False with res_post_norm, which already normalises",
        ),
        (
            {"layer_scale": 1.0, "res_post_norm": True},
            "layer_scale must be None with res_post_norm, because with layer scales the released "
            "code ignores res_post_norm",
        ),
        (
            {"classification_head": "attention_pooling", "norm_layer": "BN"},
            "norm_layer must be 'LN' for the attention-pooling head",
        ),
        (
            {"classification_head": "attention_pooling", "depths": (1,), "groups": (4,)}
            | {"out_indices": (0,)},
            "depths must give at least two stages, which the attention-pooling head reads",
        ),
        (
            {"level2_post_norm_block_ids": (18,)},
            "level2_post_norm_block_ids must be increasing layer indices of the third stage, in "
            "[0, 18); got",
        ),
        ({"level2_post_norm_block_ids": (5, 5)}, "level2_post_norm_block_ids must be increasing"),
        (
            {"depths": (1, 1), "groups": (4, 8), "level2_post_norm_block_ids": (0,)}
            | {"out_indices": (0,)},
            "level2_post_norm_block_ids must be increasing layer indices of the third stage, in "
            "[0, 0); got (0,)",
        ),
        (
            {"out_indices": ()},
            "out_indices must be increasing stage indices in [0, 4); got ()",
        ),
        (
            {"out_indices": (1, 0)},
            "out_indices must be increasing stage indices in [0, 4); got (1, 0)",
        ),
        (
            {"out_indices": (2, 4)},
            "out_indices must be increasing stage indices in [0, 4); got (2, 4)",
        ),
        (
            {"out_indices": (-1,)},
            "out_indices must be increasing stage indices in [0, 4); got (-1,)",
        ),
        ({"frozen_stages": 5}, "frozen_stages must lie in [0, 4], the number of stages; got 5"),
        ({"frozen_stages": -1}, "frozen_stages must lie in [0, 4], the number of stages; got -1"),
    ],
)
def test_contradiction_is_refused_by_the_name_of_the_field(
    flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"backbone.{message}")):
        InternImageConfig(**flags)


def test_configuration_is_frozen_and_takes_keywords_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        InternImageConfig().channels = 32  # type: ignore[misc]
    with pytest.raises(TypeError):
        InternImageConfig(64)  # type: ignore[misc]


def test_returned_stages_have_channels_and_strides() -> None:
    config = InternImageConfig(channels=80, groups=(5, 10, 20, 40), out_indices=(1, 3))
    assert config.stage_channels == (80, 160, 320, 640)
    assert config.out_channels == (160, 640)
    assert config.out_strides == (8, 32)


def test_drop_path_of_a_single_layer_is_zero_when_linear() -> None:
    one = InternImageConfig(depths=(1,), groups=(4,), out_indices=(0,), drop_path_rate=0.3)
    assert one.drop_path_rates == (0.0,)
    assert dataclasses.replace(one, drop_path_type="uniform").drop_path_rates == (0.3,)


@pytest.mark.parametrize(
    ("name", "ends_with_norm"),
    [(name, name[-1] in "thg") for name in INTERNIMAGE_VARIANTS],
)
def test_stages_of_t_h_and_g_end_with_a_norm(name: str, ends_with_norm: bool) -> None:
    assert detection_config(name).stage_end_norm is ends_with_norm


@pytest.mark.parametrize("setting", [detection_config, classification_config])
def test_unknown_size_is_refused_with_the_known_ones(setting: Any) -> None:
    with pytest.raises(ValueError, match=r"must be one of internimage_t, .*; got 'internimage_m'"):
        setting("internimage_m")


def test_published_sizes_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        INTERNIMAGE_VARIANTS["internimage_t"] = InternImageConfig()  # type: ignore[index]
