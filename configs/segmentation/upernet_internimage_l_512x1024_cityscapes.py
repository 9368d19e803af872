"""UperNet with InternImage-L for Cityscapes."""

from bevstack.config.published_segmentation import upernet_cityscapes

CONFIG = upernet_cityscapes("upernet_internimage_l_512x1024_cityscapes", "internimage_l")
