"""UperNet with InternImage-L for ADE20K, at pictures of 640 pixels."""

from bevstack.config.published_segmentation import upernet_ade20k

CONFIG = upernet_ade20k("upernet_internimage_l_640_ade20k", "internimage_l", side=640)
