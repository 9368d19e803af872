"""UperNet with InternImage-XL for ADE20K, at pictures of 640 pixels."""

from bevstack.config.published_segmentation import upernet_ade20k

CONFIG = upernet_ade20k("upernet_internimage_xl_640_ade20k", "internimage_xl", side=640)
