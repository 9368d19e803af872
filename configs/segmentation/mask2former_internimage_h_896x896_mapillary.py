"""Mask2Former with InternImage-H for Mapillary Vistas with Cityscapes' classes, in windows."""

from bevstack.config.published_mask_segmentation import mask2former, mask_recipe, windows
from bevstack.config.published_segmentation import CITYSCAPES_CLASSES

CONFIG = mask2former(
    "mask2former_internimage_h_896x896_mapillary",
    CITYSCAPES_CLASSES,
    windows(896),
    crop=896,
    training=mask_recipe(80_000, 2e-5, batch_size=32),
)
