"""BEVFormer v2 with InternImage-B and seven past key frames: 3.5 s of history.

Frames and fusion are those of the released ResNet-50 t8 recipe; the paper has no such recipe for
InternImage.
"""

from dataclasses import replace

from bevstack.config import TemporalConfig
from bevstack.configs.bevformerv2_internimage_b_t1 import CONFIG as T1

CONFIG = replace(
    T1,
    name="bevformerv2_internimage_b_t8",
    frames=(-7, -6, -5, -4, -3, -2, -1, 0),
    temporal=TemporalConfig(alignment="reproject", inter_channels=512),
)
