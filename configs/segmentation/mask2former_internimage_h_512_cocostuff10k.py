"""Mask2Former with InternImage-H for COCO-Stuff (10k pictures), at pictures of 512 pixels."""

from bevstack.config.published_mask_segmentation import (
    COCO_STUFF_CLASSES,
    WIDE_HEAD,
    mask2former,
    mask_recipe,
)
from bevstack.config.segmentation import LabelledSizeConfig

CONFIG = mask2former(
    "mask2former_internimage_h_512_cocostuff10k",
    COCO_STUFF_CLASSES,
    LabelledSizeConfig(long_side=2048, short_side=512),
    WIDE_HEAD,
    crop=512,
    training=mask_recipe(40_000, 1e-5),
)
