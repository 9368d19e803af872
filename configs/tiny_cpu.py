"""Single-frame detector that is small enough to train on two CPU cores in minutes."""

from bevstack.config import (
    AugmentationConfig,
    BEVEncoderConfig,
    BEVGrid,
    Config,
    DecoderConfig,
    FPNConfig,
    ImageConfig,
    InternImageConfig,
    TrainingConfig,
)

CONFIG = Config(
    name="tiny_cpu",
    images=ImageConfig(size=(128, 320)),
    grid=BEVGrid(shape=(40, 40)),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), drop_path_rate=0.0
    ),
    fpn=FPNConfig(num_outputs=3, channels=64),
    encoder=BEVEncoderConfig(
        num_layers=2, num_heads=4, feedforward_channels=128, dropout=0.0, pair_step=256
    ),
    decoder=DecoderConfig(
        num_layers=3, num_heads=4, feedforward_channels=128, dropout=0.0, num_queries=250
    ),
    augmentation=AugmentationConfig(flip_images=False),
    training=TrainingConfig(
        num_steps=1000,
        batch_size=2,
        learning_rate=1e-3,
        backbone_multiplier=1.0,
        warmup_steps=30,
        schedule="cosine",
        checkpoint_every=100,
        log_every=10,
    ),
)
