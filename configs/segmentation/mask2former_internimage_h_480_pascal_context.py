"""Mask2Former with InternImage-H for the 59 classes of Pascal Context."""

from bevstack.config.published_mask_segmentation import (
    CONTEXT_CLASSES,
    mask2former,
    mask_recipe,
)
from bevstack.config.segmentation import LabelledSizeConfig

CONFIG = mask2former(
    "mask2former_internimage_h_480_pascal_context",
    CONTEXT_CLASSES,
    LabelledSizeConfig(long_side=4096, short_side=520),
    crop=480,
    training=mask_recipe(40_000, 2e-5),
)
