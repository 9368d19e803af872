"""BEVFormer v2 with InternImage-XL, single frame: the paper's largest detector.

Recipe: arXiv 2211.10439, section 4 (learning rate 5e-4, layer-wise decay 0.94, batch 32, 24
epochs).
"""

from dataclasses import replace

from bevstack.config.internimage import INTERNIMAGE_VARIANTS
from bevstack.configs.bevformerv2_internimage_b_t1 import CONFIG as B

CONFIG = replace(
    B,
    name="bevformerv2_internimage_xl_t1",
    backbone=replace(INTERNIMAGE_VARIANTS["internimage_xl"], activation_checkpointing=True),
    training=replace(
        B.training,
        num_steps=24 * 28_130 // 32,  # 24 epochs of nuScenes' training samples
        batch_size=32,
        learning_rate=5e-4,
        layer_decay=0.94,
    ),
)
