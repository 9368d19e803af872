"""Segmenter: InternImage, a head at stride 4, and an auxiliary head in training.

Letters: B batch, K outputs, H W of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from bevstack.config.segmentation import UPERNET, SegmentationConfig
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.segmentation.heads import (
    AuxiliaryHead,
    SegFormerHead,
    UperHead,
    map_size,
    resize_map,
)

AUXILIARY_STAGE = 2  # of the backbone, counted from 0


class SegmentationOutput(NamedTuple):
    """Logits of the pixels, at the sizes of the maps that the heads see."""

    logits: Tensor  # (B, K, H / 4, W / 4)
    auxiliary: Tensor | None  # (B, K, H / 16, W / 16) in training, if there is such a head


class Segmenter(nn.Module):
    """Model that labels each pixel of pictures.

    Args:
        config: the model.
        backbone: a backbone to share, of the configuration's section; None builds one.
    """

    def __init__(self, config: SegmentationConfig, backbone: InternImage | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = InternImage(config.backbone) if backbone is None else backbone
        channels, outputs = self.backbone.out_channels, config.num_outputs
        kind = UperHead if config.head.kind == UPERNET else SegFormerHead
        self.head = kind(config.head, in_channels=channels, num_outputs=outputs)
        self.auxiliary: AuxiliaryHead | None = None
        if config.head.auxiliary_channels:
            self.auxiliary = AuxiliaryHead(
                config.head, in_channels=channels[AUXILIARY_STAGE], num_outputs=outputs
            )

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W) normalised
        stages: Sequence[Tensor] | None = None,  # of the backbone; None: computed
    ) -> SegmentationOutput:
        """Predict logits; in training mode also those of the auxiliary head."""
        stages = self.backbone(images) if stages is None else stages
        extra = self.auxiliary if self.training else None
        auxiliary = None if extra is None else extra(stages[AUXILIARY_STAGE])
        return SegmentationOutput(self.head(stages), auxiliary)

    def pixel_logits(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> Tensor:  # (B, K, H, W)
        """Predict logits at the size of the images."""
        return resize_map(self(images).logits, map_size(images))
