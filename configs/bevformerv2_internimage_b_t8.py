"""BEVFormer v2 behind InternImage-B, with seven key frames before: 3.5 s of history.

Frames and fusion are those of the released t8 recipe, which the paper's sizes never had.
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
