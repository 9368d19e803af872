"""Mask2Former (arXiv 2112.01527) on InternImage, for labels of pixels.

Letters: B batch, Q queries, K classes, R layers of the decoder, H W of the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bevstack.config.mask_segmentation import MaskSegmentationConfig
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.segmentation.heads import map_size, resize_map
from bevstack.models.segmentation.mask_decoder import MaskDecoder, MaskPrediction
from bevstack.models.segmentation.pixel_decoder import PixelDecoder


class MaskSegmenter(nn.Module):
    """Model that predicts a class and a mask of each query, and from them the label of each pixel.

    Args:
        config: the model.
        backbone: a backbone to share, of the configuration's section; None builds one.
    """

    def __init__(self, config: MaskSegmentationConfig, backbone: InternImage | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = InternImage(config.backbone) if backbone is None else backbone
        self.pixel_decoder = PixelDecoder(config.head, self.backbone.out_channels)
        self.decoder = MaskDecoder(config.head, config.num_outputs)

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W) normalised
        stages: Sequence[Tensor] | None = None,  # of the backbone; None: computed
    ) -> tuple[MaskPrediction, ...]:
        """Predict classes and masks: R + 1 predictions in training mode, else the last one."""
        stages = self.backbone(images) if stages is None else stages
        predictions: tuple[MaskPrediction, ...] = self.decoder(self.pixel_decoder(stages))
        return predictions

    def pixel_logits(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> Tensor:  # (B, K, H, W)
        """Predict scores of the classes at the size of the images.

        The scores are sums over queries and may exceed 1. The released inference treats them as
        logits, so that a softmax of them is averaged over views.
        """
        return resize_map(class_scores(self(images)[-1]), map_size(images))


def class_scores(prediction: MaskPrediction) -> Tensor:  # (B, K, H / 4, W / 4)
    """Return the sum over queries of the class's probability times that of the mask."""
    classes = prediction.logits.softmax(-1)[..., :-1]
    return torch.einsum("bqk,bqhw->bkhw", classes, prediction.masks.sigmoid())
