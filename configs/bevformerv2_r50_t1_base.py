"""Released BEVFormer v2 with ResNet-50, single frame: the base of t1, t2 and t8.

Published score (nuScenes val): NDS 0.4257 after these 24 epochs, 0.4394 after 48 epochs. The
backbone starts from an FCOS detector trained on COCO (`bevstack convert-weights --backbone`).
Boxes, grid and weights are in the LIDAR_TOP frame.

Known differences from the released code: colours are clipped after photometric distortion; the
calibration of mirrored images accounts for their padding, which the released code leaves out.
"""

from bevstack.config import (
    AugmentationConfig,
    BEVEncoderConfig,
    BEVGrid,
    Config,
    FPNConfig,
    ImageConfig,
    LossConfig,
    PerspectiveConfig,
    ResNetConfig,
    TrainingConfig,
)

CONFIG = Config(
    name="bevformerv2_r50_t1_base",
    images=ImageConfig(
        size=(640, 1600), channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0)
    ),
    grid=BEVGrid(z_range_m=(-5.0, 3.0), frame="lidar"),
    backbone=ResNetConfig(depth=50, norm="SyncBN"),
    fpn=FPNConfig(num_outputs=5),  # the perspective head uses all five levels
    encoder=BEVEncoderConfig(num_levels=4),  # the BEV encoder uses the finest four
    perspective=PerspectiveConfig(norm="SyncBN", official_parity=True),
    loss=LossConfig(official_parity=True),
    augmentation=AugmentationConfig(photometric=True, grid_mask=0.7),
    training=TrainingConfig(
        num_steps=24 * 28_130 // 16,  # 24 epochs of nuScenes' training samples
        batch_size=16,  # over all processes; published with one sample per GPU
        learning_rate=4e-4,
        backbone_multiplier=0.5,
        weight_decay=0.01,
        gradient_clip=35.0,
        warmup_steps=2_000,
        decay_at=(20 / 24,),
    ),
)
