"""The flagship at its published size, single frame: InternImage-XL at 640x1600, 200x200 BEV.

Recipe: InternImage-XL row of BEVFormer v2, arXiv 2211.10439, section 4 (rate 5e-4, batch 32).
"""

from bevstack.config import Config, ImageConfig, TrainingConfig
from bevstack.config.internimage import INTERNIMAGE_VARIANTS

CONFIG = Config(
    name="bevformerv2_internimage_xl_t1",
    images=ImageConfig(size=(640, 1600)),
    backbone=INTERNIMAGE_VARIANTS["internimage_xl"],
    training=TrainingConfig(learning_rate=5e-4, batch_size=32, num_steps=21_000),
)
