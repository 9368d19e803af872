"""UperNet with InternImage-T for Cityscapes."""

from bevstack.config.published_segmentation import upernet_cityscapes

CONFIG = upernet_cityscapes("upernet_internimage_t_512x1024_cityscapes", "internimage_t")
