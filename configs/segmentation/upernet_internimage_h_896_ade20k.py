"""UperNet with InternImage-H for ADE20K, at pictures of 896 pixels."""

from bevstack.config.published_segmentation import upernet_ade20k

CONFIG = upernet_ade20k("upernet_internimage_h_896_ade20k", "internimage_h", side=896)
