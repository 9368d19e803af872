"""BEVFormer v2 of the paper behind InternImage-S, single frame.

B's recipe, as the paper has no row for this size.
"""

from dataclasses import replace

from bevstack.config.internimage import INTERNIMAGE_VARIANTS
from bevstack.configs.bevformerv2_internimage_b_t1 import CONFIG as B

CONFIG = replace(
    B,
    name="bevformerv2_internimage_s_t1",
    backbone=INTERNIMAGE_VARIANTS["internimage_s"],
)
