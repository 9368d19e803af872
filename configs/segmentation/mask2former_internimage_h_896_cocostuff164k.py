"""Mask2Former with InternImage-H for COCO-Stuff (164k pictures), at pictures of 896 pixels."""

from bevstack.config.published_mask_segmentation import (
    COCO_STUFF_CLASSES,
    WIDE_HEAD,
    mask2former,
    mask_recipe,
)
from bevstack.config.segmentation import LabelledSizeConfig

CONFIG = mask2former(
    "mask2former_internimage_h_896_cocostuff164k",
    COCO_STUFF_CLASSES,
    LabelledSizeConfig(long_side=3584, short_side=896),
    WIDE_HEAD,
    crop=896,
    training=mask_recipe(80_000, 2e-5),
)
