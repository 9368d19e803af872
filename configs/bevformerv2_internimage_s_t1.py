"""BEVFormer v2 with InternImage-S, single frame.

The recipe is that of InternImage-B; the paper (arXiv 2211.10439) gives none for this size.
"""

from dataclasses import replace

from bevstack.config.internimage import INTERNIMAGE_VARIANTS
from bevstack.configs.bevformerv2_internimage_b_t1 import CONFIG as B

CONFIG = replace(
    B,
    name="bevformerv2_internimage_s_t1",
    backbone=INTERNIMAGE_VARIANTS["internimage_s"],
)
