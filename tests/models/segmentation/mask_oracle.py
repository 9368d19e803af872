"""Mask2Former of a stored case, in our classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bevstack.config.mask_segmentation import MaskHeadConfig, MaskSegmentationConfig
from bevstack.config.segmentation import LabelledSizeConfig
from bevstack.interop.public_weights import convert_weights
from bevstack.interop.segmentation_names import MASK2FORMER_ROWS
from bevstack.models.segmentation.mask_model import MaskSegmenter
from bevstack.models.skeleton import skeleton
from tests.models.backbones.internimage_oracle import config_of

IGNORED = ("type", "core_op", "init_cfg", "with_cp")  # keywords that do not change the model
STAGES = ("c2", "c3", "c4", "c5")


def mask_config(case: Mapping[str, Any]) -> MaskSegmentationConfig:
    """Return our configuration of a stored one."""
    released = case["model_config"]
    flags = {key: value for key, value in released["backbone"].items() if key not in IGNORED}
    head, training = released["decode_head"], released["train_cfg"]
    encoder = head["pixel_decoder"]["encoder"]
    attention = encoder["transformerlayers"]["attn_cfgs"]
    decoder = head["transformer_decoder"]
    costs = training["assigner"]
    weights = {
        "class_weight": (head["loss_cls"]["loss_weight"], costs["cls_cost"]["weight"]),
        "mask_weight": (head["loss_mask"]["loss_weight"], costs["mask_cost"]["weight"]),
        "dice_weight": (head["loss_dice"]["loss_weight"], costs["dice_cost"]["weight"]),
    }
    assert all(loss == cost for loss, cost in weights.values())
    return MaskSegmentationConfig(
        name="stored",
        class_names=tuple(f"class {index}" for index in range(case["num_classes"])),
        pictures=LabelledSizeConfig(long_side=128, short_side=96),
        backbone=config_of(flags),
        head=MaskHeadConfig(
            channels=head["feat_channels"],
            num_heads=attention["num_heads"],
            num_points=attention["num_points"],
            num_queries=head["num_queries"],
            encoder_layers=encoder["num_layers"],
            decoder_layers=decoder["num_layers"],
            encoder_feedforward_channels=encoder["transformerlayers"]["ffn_cfgs"][
                "feedforward_channels"
            ],
            decoder_feedforward_channels=decoder["transformerlayers"]["feedforward_channels"],
            norm_groups=head["pixel_decoder"]["norm_cfg"]["num_groups"],
            sampled_points=training["num_points"],
            oversampling=training["oversample_ratio"],
            uncertain_share=training["importance_sample_ratio"],
            **{name: loss for name, (loss, _) in weights.items()},
            empty_weight=head["loss_cls"]["class_weight"][-1],
        ),
    )


def stored_model(case: Mapping[str, Any], state: Mapping[str, Tensor]) -> MaskSegmenter:
    """Return the model of a case with its weights."""
    with skeleton():
        model = MaskSegmenter(mask_config(case))
    converted, report = convert_weights(state, model.state_dict(), MASK2FORMER_ROWS)
    assert not report.missing and not report.left_over
    model.load_state_dict(converted, assign=True)
    return model.eval().requires_grad_()
