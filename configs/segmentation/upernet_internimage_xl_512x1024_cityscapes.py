"""UperNet with InternImage-XL for Cityscapes."""

from bevstack.config.published_segmentation import upernet_cityscapes

CONFIG = upernet_cityscapes("upernet_internimage_xl_512x1024_cityscapes", "internimage_xl")
