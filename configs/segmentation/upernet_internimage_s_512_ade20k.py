"""UperNet with InternImage-S for ADE20K, at pictures of 512 pixels."""

from bevstack.config.published_segmentation import upernet_ade20k

CONFIG = upernet_ade20k("upernet_internimage_s_512_ade20k", "internimage_s", side=512)
