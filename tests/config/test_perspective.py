from __future__ import annotations

import pytest

from bevstack.config.perspective import DD3D, PerspectiveConfig, ProposalConfig, SmallImagePreset


def test_default_is_the_released_recipe() -> None:
    config = PerspectiveConfig()
    assert config.num_classes == 10
    length, width, _ = config.canonical_size_m[3]
    assert length > width  # of a car
    assert not config.official_parity


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strides": (8, 16)}, r"mean_depth_m must hold 2 values for 2 strides"),
        ({"strides": (16, 8, 32, 64, 128)}, r"strides must be in ascending order"),
        ({"level_bounds_px": (64, 128, 256)}, r"level_bounds_px must hold 4 values"),
        ({"level_bounds_px": (64, 256, 128, 512)}, r"level_bounds_px must be in ascending order"),
        ({"norm": "layer"}, r"norm must be one of \('BN', 'SyncBN', 'GN'\); got 'layer'"),
        ({"std_depth_m": (1.0, 1.0, 0.0, 1.0, 1.0)}, r"std_depth_m must be positive"),
        ({"depth_range_m": (3.0, 2.0)}, r"depth_range_m must be in ascending order and above 0"),
        ({"canonical_size_m": ()}, r"canonical_size_m must hold a positive size for each class"),
        (
            {"canonical_size_m": ((1.0, 0.0, 1.0),)},
            r"canonical_size_m must hold a positive size for each class",
        ),
        ({"num_convs": 0}, r"num_convs must be positive; got 0"),
        ({"smooth_l1_beta": 0.0}, r"smooth_l1_beta must be positive"),
        ({"class_weight": 0.0}, r"class_weight must be positive; got 0"),
        ({"predictor_size": 2}, r"predictor_size must be odd and positive; got 2"),
        ({"min_points": -1}, r"min_points must be >= 0"),
        ({"nms_iou": 1.5}, r"nms_iou must lie in \[0, 1\]; got 1.5"),
        ({"score_threshold": -0.1}, r"score_threshold must lie in \[0, 1\]"),
    ],
)
def test_contradictions_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"perspective.{message}"):
        PerspectiveConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attitude": "euler"}, r"attitude must be one of \('quaternion', 'yaw'\); got 'euler'"),
        ({"speed_activation": "abs"}, r"speed_activation must be one of \('relu', 'linear'\)"),
        ({"confidence_power": -0.5}, r"confidence_power must be >= 0; got -0.5"),
        ({"min_extent": -1.0}, r"min_extent must be >= 0; got -1"),
        ({"full_weight_depth_m": 0.0}, r"full_weight_depth_m must be positive or None; got 0"),
        ({"sides_activation": "exp"}, r"sides_activation must be one of \('relu', 'softplus'\)"),
        ({"choice": "largest"}, r"choice must be one of \('nearest', 'smallest'\); got 'largest'"),
        ({"min_visibility": 5}, r"min_visibility must lie in 0\.\.4; got 5"),
    ],
)
def test_contradictions_of_the_preset_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"perspective.small_images.{message}"):
        SmallImagePreset(**fields)


def test_without_a_preset_dd3d_is_unchanged() -> None:
    assert PerspectiveConfig().changes == DD3D
    assert PerspectiveConfig(small_images=SmallImagePreset()).changes == SmallImagePreset()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_per_view": 0}, r"max_per_view must be positive; got 0"),
        ({"max_proposals": 0}, r"max_proposals must be positive; got 0"),
        ({"max_per_class": 0}, r"max_per_class must be positive or None; got 0"),
        ({"bev_nms_iou": 1.5}, r"bev_nms_iou must lie in \[0, 1\]; got 1.5"),
        ({"score_threshold": -0.1}, r"score_threshold must lie in \[0, 1\]"),
        ({"start": "nowhere"}, r"start must be one of \('place', 'box'\); got 'nowhere'"),
    ],
)
def test_contradictions_of_proposals_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"proposals.{message}"):
        ProposalConfig(**fields)
