"""UperNet with InternImage-G for ADE20K, at pictures of 896 pixels."""

from bevstack.config.published_segmentation import upernet_ade20k

CONFIG = upernet_ade20k("upernet_internimage_g_896_ade20k", "internimage_g", side=896)
