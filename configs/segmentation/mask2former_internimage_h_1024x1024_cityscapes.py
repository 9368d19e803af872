"""Mask2Former with InternImage-H for Cityscapes, in windows of 1024 pixels."""

from bevstack.config.published_mask_segmentation import mask2former, mask_recipe, windows
from bevstack.config.published_segmentation import CITYSCAPES_CLASSES

CONFIG = mask2former(
    "mask2former_internimage_h_1024x1024_cityscapes",
    CITYSCAPES_CLASSES,
    windows(1024),
    crop=1024,
    training=mask_recipe(80_000, 1e-5),
)
