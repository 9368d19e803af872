"""Building of our detectors from the stored cases of Mask R-CNN and Cascade Mask R-CNN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bevstack.config.detection2d import Detection2DConfig, RoIConfig, RPNConfig
from bevstack.interop.detection2d_names import REGION_ROWS
from bevstack.interop.public_weights import convert_weights
from bevstack.models.detection2d.model import RegionDetector
from bevstack.models.skeleton import skeleton
from bevstack.types.pictures2d import PictureBatch, PictureObjects, PictureSize
from tests import internimage_heads_oracle as oracle
from tests.models.backbones.internimage_oracle import config_of

# Keywords of the released backbone that do not change the model.
IGNORED = ("type", "core_op", "init_cfg", "with_cp")


def detector_config(model: Mapping[str, Any], num_classes: int) -> Detection2DConfig:
    """Return our configuration for a released one of small sizes."""
    flags = {key: value for key, value in model["backbone"].items() if key not in IGNORED}
    rpn, test, train = model["rpn_head"], model["test_cfg"], model["train_cfg"]
    heads = model["roi_head"]["bbox_head"]
    cascade = isinstance(heads, list)
    stages = heads if cascade else [heads]
    rules = train["rcnn"] if cascade else [train["rcnn"]]
    anchors = train["rpn"]
    return Detection2DConfig(
        name="stored",
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        backbone=config_of(flags),
        channels=model["neck"]["out_channels"],
        rpn=RPNConfig(
            candidates=test["rpn"]["nms_pre"],
            proposals=test["rpn"]["max_per_img"],
            train_candidates=train["rpn_proposal"]["nms_pre"],
            train_proposals=train["rpn_proposal"]["max_per_img"],
            inside_only=anchors["allowed_border"] == 0,
            smooth_l1_beta=rpn["loss_bbox"].get("beta", 0.0),
        ),
        roi=RoIConfig(
            num_convs=stages[0].get("num_shared_convs", 0),
            num_linear=stages[0].get("num_shared_fcs", 2),
            hidden_channels=stages[0]["fc_out_channels"],
            num_mask_convs=4,
            stds=tuple(tuple(stage["bbox_coder"]["target_stds"]) for stage in stages),
            ious=tuple(rule["assigner"]["pos_iou_thr"] for rule in rules),
            weights=tuple(model["roi_head"].get("stage_loss_weights", [1.0])),
            match_best=rules[0]["assigner"]["match_low_quality"],
            giou=stages[0]["loss_bbox"]["type"] == "GIoULoss",
            box_weight=stages[0]["loss_bbox"]["loss_weight"],
        ),
    )


def load_published(model: RegionDetector, state: Mapping[str, Tensor], **allowed: Any) -> None:
    """Load released weights into a model without values; no key may be left over."""
    converted, _ = convert_weights(state, model.state_dict(), REGION_ROWS, **allowed)
    model.load_state_dict(converted, strict=not allowed, assign=True)


def stored_detector(name: str) -> RegionDetector:
    """Return the model of a small case, to evaluate."""
    case = oracle.manifest()[name]
    with skeleton():
        model = RegionDetector(detector_config(case["model_config"], case["num_classes"]))
    load_published(model, oracle.stored_state(name))
    return model.eval().requires_grad_()


def picture_size(meta: Mapping[str, Any]) -> PictureSize:
    original, resized, padded = (
        (meta[key][0], meta[key][1]) for key in ("ori_shape", "img_shape", "pad_shape")
    )
    return PictureSize(original=original, resized=resized, padded=padded)


def stored_batch(
    case: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    images: Tensor | None = None,
) -> PictureBatch:
    """Return the batch of a case, with its objects if it has any."""
    metas = case["img_metas"]
    names = tuple(f"image {index}" for index in range(len(metas)))
    objects = tuple(
        PictureObjects(
            boxes=stored[f"gt_boxes_{index}"],
            labels=stored[f"gt_labels_{index}"],
            masks=stored[f"gt_masks_{index}"],
        )
        for index in range(len(metas))
        if f"gt_boxes_{index}" in stored
    )
    return PictureBatch(
        images=torch.zeros(len(metas), 3, 0, 0) if images is None else images,
        sizes=tuple(picture_size(meta) for meta in metas),
        names=names,
        objects=objects,
        seeds=tuple(range(len(objects))),
    )


def spread_choice(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return evenly spread candidates, the rule of the stored cases in place of a random choice."""
    return candidates[torch.arange(count) * len(candidates) // count]
