"""BEVFormer v2 of the paper behind InternImage-L, single frame.

XL's recipe, as the paper has no row for this size.
"""

from dataclasses import replace

from bevstack.config.internimage import INTERNIMAGE_VARIANTS
from bevstack.configs.bevformerv2_internimage_xl_t1 import CONFIG as XL

CONFIG = replace(
    XL,
    name="bevformerv2_internimage_l_t1",
    backbone=replace(INTERNIMAGE_VARIANTS["internimage_l"], activation_checkpointing=True),
)
