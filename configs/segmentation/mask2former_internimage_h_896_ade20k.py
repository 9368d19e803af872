"""Mask2Former with InternImage-H for ADE20K, at pictures of 896 pixels."""

from bevstack.config.published_mask_segmentation import WIDE_HEAD, mask2former, mask_recipe
from bevstack.config.published_segmentation import ADE20K_CLASSES
from bevstack.config.segmentation import LabelledSizeConfig

CONFIG = mask2former(
    "mask2former_internimage_h_896_ade20k",
    ADE20K_CLASSES,
    LabelledSizeConfig(long_side=3584, short_side=896),
    WIDE_HEAD,
    crop=896,
    training=mask_recipe(80_000, 1e-5),
)
