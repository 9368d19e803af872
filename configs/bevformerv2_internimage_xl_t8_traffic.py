"""``bevformerv2_internimage_xl_t8`` with lights and signs in the three front cameras.

The front cameras are seen at full width, down to 70 percent of their rows.
"""

from dataclasses import replace

from bevstack.config import TrafficConfig
from bevstack.configs.bevformerv2_internimage_xl_t8 import CONFIG as T8

CONFIG = replace(
    T8,
    name="bevformerv2_internimage_xl_t8_traffic",
    traffic=TrafficConfig(
        num_cameras=3,
        rows=(0.0, 0.7),
        max_width_px=1600,
        stages=(0, 1, 2),
        channels=128,
        num_convs=3,
        roi_channels=256,
        roi_map_cells=5,
        roi_image_cells=20,
        max_candidates=100,
        max_elements=60,
        speed_limits_kmh=(20, 30, 40, 50, 60, 70, 80),
        samples=8,
    ),
)
