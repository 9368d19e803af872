"""UperNet with InternImage-S for Cityscapes."""

from bevstack.config.published_segmentation import upernet_cityscapes

CONFIG = upernet_cityscapes("upernet_internimage_s_512x1024_cityscapes", "internimage_s")
