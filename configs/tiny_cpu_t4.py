"""All stages in a size that trains on two CPU cores: four frames, perspective head, proposals.

The norms need no large batch: groups of channels in the perspective head, plain batch norm over
the cells of the BEV map in the fusion. Images are a fifth of the published size, and so are the
image lengths of the perspective head.
"""

from dataclasses import replace

from bevstack.config import PerspectiveConfig, ProposalConfig, TemporalConfig
from bevstack.configs.tiny_cpu import CONFIG as T1

CONFIG = replace(
    T1,
    name="tiny_cpu_t4",
    frames=(-3, -2, -1, 0),
    temporal=TemporalConfig(alignment="reproject", num_fusion=2, inter_channels=64, norm="BN"),
    decoder=replace(T1.decoder, num_queries=150, num_groups=3),
    perspective=PerspectiveConfig(
        strides=(8, 16, 32),
        num_convs=2,
        norm="GN",
        norm_groups=8,
        focal_factor_px=100.0,
        mean_depth_m=(44.9, 16.0, 9.0),
        std_depth_m=(24.3, 8.0, 6.0),
        level_bounds_px=(16, 32),
        max_candidates=200,
        max_detections=50,
    ),
    proposals=ProposalConfig(max_per_view=20, max_proposals=50),
)
