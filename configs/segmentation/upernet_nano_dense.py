"""UperNet that is small enough to train on one CPU core in minutes, for synthetic worlds."""

from bevstack.config import InternImageConfig, TrainingConfig
from bevstack.config.published_segmentation import WORLD_CLASSES
from bevstack.config.segmentation import (
    LabelAugmentation,
    LabelHeadConfig,
    LabelledSizeConfig,
    SegmentationConfig,
)

CONFIG = SegmentationConfig(
    name="upernet_nano_dense",
    class_names=WORLD_CLASSES,
    num_outputs=len(WORLD_CLASSES),
    pictures=LabelledSizeConfig(long_side=400, short_side=225),
    label_augmentation=LabelAugmentation(
        resize=(0.75, 1.25), photometric=False, crop_px=(128, 208), max_share=0.9
    ),
    backbone=InternImageConfig(
        channels=16,
        depths=(1, 1, 2, 1),
        groups=(1, 2, 4, 8),
        drop_path_rate=0.0,
    ),
    head=LabelHeadConfig(channels=48, auxiliary_channels=32),
    training=TrainingConfig(
        num_steps=240,
        batch_size=4,
        learning_rate=2e-3,
        backbone_multiplier=1.0,
        weight_decay=0.01,
        decay_norms_and_biases=False,
        gradient_clip=5.0,
        warmup_steps=20,
        schedule="linear",
        checkpoint_every=120,
        evaluate_every=240,
        log_every=20,
        num_workers=0,
    ),
)
