"""A small Mask2Former, and pictures with labels that it can learn."""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.config import InternImageConfig
from bevstack.config.mask_segmentation import MaskHeadConfig, MaskSegmentationConfig
from bevstack.config.segmentation import LabelledSizeConfig
from bevstack.vocabulary import IGNORED_LABEL

CONFIG = MaskSegmentationConfig(
    name="small",
    class_names=("a", "b", "c", "d"),
    pictures=LabelledSizeConfig(long_side=96, short_side=64),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), norm_layer="GN", drop_path_rate=0.0
    ),
    head=MaskHeadConfig(
        channels=32,
        num_heads=4,
        num_points=2,
        num_queries=8,
        encoder_layers=1,
        decoder_layers=3,
        encoder_feedforward_channels=32,
        decoder_feedforward_channels=48,
        norm_groups=8,
        sampled_points=200,
    ),
)


def two_pictures() -> tuple[Tensor, Tensor]:  # (2, 3, 64, 96), (2, 64, 96) int64
    """Return two pictures of coloured areas by class, and their labels."""
    labels = torch.zeros(2, 64, 96, dtype=torch.int64)
    labels[0, 32:, :60] = 1
    labels[0, 10:26, 50:90] = 2
    labels[1, :, 40:] = 3
    labels[1, 20:50, 10:30] = 2
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, -1]])
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(2, 3, 64, 96, generator=generator)
    images = colors[labels].permute(0, 3, 1, 2) + noise
    labels[:, :3] = IGNORED_LABEL
    return images, labels
