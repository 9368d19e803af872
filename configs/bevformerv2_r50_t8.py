"""Released BEVFormer v2 with ResNet-50 and seven past key frames: 3.5 s of history.

Published score (nuScenes val): NDS 0.5528 after these 24 epochs.
"""

from dataclasses import replace

from bevstack.config import TemporalConfig
from bevstack.configs.bevformerv2_r50_t1 import CONFIG as T1

CONFIG = replace(
    T1,
    name="bevformerv2_r50_t8",
    frames=(-7, -6, -5, -4, -3, -2, -1, 0),
    temporal=TemporalConfig(alignment="reproject", norm="SyncBN", inter_channels=512),
)
