"""Mask2Former with InternImage-H for the 40 classes of NYU Depth V2."""

from bevstack.config.published_mask_segmentation import NYU_CLASSES, mask2former, mask_recipe
from bevstack.config.segmentation import LabelledSizeConfig

CONFIG = mask2former(
    "mask2former_internimage_h_480_nyu",
    NYU_CLASSES,
    LabelledSizeConfig(long_side=640, short_side=480),
    crop=480,
    training=mask_recipe(40_000, 2e-5),
)
