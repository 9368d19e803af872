"""BEVFormer v2 with InternImage-B, single frame: two stages, hybrid object queries.

Recipe: arXiv 2211.10439, section 4 (learning rate 4e-4, layer-wise decay 0.96, batch 16, 24
epochs). Augmentation and groups of queries are those of the released ResNet-50 recipe. The BEV
frame is the ego frame. Published score with both supervisions, single frame (nuScenes val): NDS
0.485. No weights were published.
"""

from bevstack.config import (
    BEVEncoderConfig,
    Config,
    DecoderConfig,
    FPNConfig,
    ImageConfig,
    PerspectiveConfig,
    ProposalConfig,
    TrainingConfig,
)
from bevstack.config.internimage import INTERNIMAGE_VARIANTS
from bevstack.configs.bevformerv2_r50_t1 import CONFIG as R50

CONFIG = Config(
    name="bevformerv2_internimage_b_t1",
    images=ImageConfig(size=(640, 1600)),
    backbone=INTERNIMAGE_VARIANTS["internimage_b"],
    fpn=FPNConfig(num_outputs=5),
    encoder=BEVEncoderConfig(num_levels=4),
    decoder=DecoderConfig(num_groups=11),
    perspective=PerspectiveConfig(),
    proposals=ProposalConfig(),
    augmentation=R50.augmentation,
    training=TrainingConfig(
        num_steps=24 * 28_130 // 16,  # 24 epochs of nuScenes' training samples
        batch_size=16,
        learning_rate=4e-4,
        backbone_multiplier=1.0,
        layer_decay=0.96,
        decay_norms_and_biases=False,  # as in InternImage's detectors
    ),
)
