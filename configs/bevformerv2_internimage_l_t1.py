"""BEVFormer v2 with InternImage-L, single frame.

The recipe is that of InternImage-XL; the paper (arXiv 2211.10439) gives none for this size.
"""

from dataclasses import replace

from bevstack.config.internimage import INTERNIMAGE_VARIANTS
from bevstack.configs.bevformerv2_internimage_xl_t1 import CONFIG as XL

CONFIG = replace(
    XL,
    name="bevformerv2_internimage_l_t1",
    backbone=replace(INTERNIMAGE_VARIANTS["internimage_l"], activation_checkpointing=True),
)
