"""SegFormer's head with InternImage-L for Cityscapes."""

from bevstack.config.published_segmentation import segformer_cityscapes

CONFIG = segformer_cityscapes("segformer_internimage_l_512x1024_cityscapes", "internimage_l")
