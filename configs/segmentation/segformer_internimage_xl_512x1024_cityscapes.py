"""SegFormer's head with InternImage-XL for Cityscapes."""

from bevstack.config.published_segmentation import segformer_cityscapes

CONFIG = segformer_cityscapes("segformer_internimage_xl_512x1024_cityscapes", "internimage_xl")
