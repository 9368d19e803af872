"""Mask R-CNN that is small enough to train on two CPU cores in minutes, for COCO's classes."""

from bevstack.config import InternImageConfig, TrainingConfig
from bevstack.config.detection2d import (
    Detection2DConfig,
    PictureAugmentation,
    PictureConfig,
    RoIConfig,
    RPNConfig,
)
from bevstack.config.published_detection2d import COCO_NAMES

CONFIG = Detection2DConfig(
    name="mask_rcnn_nano",
    class_names=COCO_NAMES,
    pictures=PictureConfig(long_side=832, short_side=576),
    picture_augmentation=PictureAugmentation(mirror=False),
    backbone=InternImageConfig(
        channels=16,
        depths=(1, 1, 2, 1),
        groups=(1, 2, 4, 8),
        norm_layer="GN",
        drop_path_rate=0.0,
    ),
    channels=64,
    # Smaller anchors than published, for small objects in small pictures
    rpn=RPNConfig(
        scale=3.0, candidates=300, proposals=200, train_candidates=300, train_proposals=300
    ),
    roi=RoIConfig(hidden_channels=256, num_mask_convs=2, samples=128),
    training=TrainingConfig(
        num_steps=400,
        batch_size=2,
        learning_rate=1e-3,
        backbone_multiplier=1.0,
        weight_decay=1e-4,
        decay_norms_and_biases=False,
        warmup_steps=30,
        schedule="cosine",
        checkpoint_every=200,
        log_every=20,
        num_workers=0,
    ),
)
