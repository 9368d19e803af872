"""BEVFormer v2 with InternImage-XL and frames 4 s before and after the current one, offline only.

Recipe: arXiv 2211.10439, sections 3.4 and 4: BEV maps 4 s apart, warped into the current frame and
fused. The paper does not give the number of maps; one past and one future map are our choice.
Published score (nuScenes test): NDS 0.634. No weights were published.
"""

from dataclasses import replace

from bevstack.config import TemporalConfig
from bevstack.configs.bevformerv2_internimage_xl_t1 import CONFIG as XL

CONFIG = replace(
    XL,
    name="bevformerv2_internimage_xl_bidirectional",
    frames=(-8, 0, 8),  # key frames, 0.5 s apart
    temporal=TemporalConfig(alignment="warp"),
)
