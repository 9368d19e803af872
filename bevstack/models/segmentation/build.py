"""Building of any model that labels pixels."""

from __future__ import annotations

from typing import TypeAlias

from bevstack.config.segmentation import SegmentationConfig
from bevstack.config.segmenters import SegmenterConfig
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.segmentation.mask_model import MaskSegmenter
from bevstack.models.segmentation.model import Segmenter

PixelModel: TypeAlias = Segmenter | MaskSegmenter


def build_segmenter(config: SegmenterConfig, backbone: InternImage | None = None) -> PixelModel:
    """Build a model, with initial weights and in training mode.

    Args:
        config: the model.
        backbone: a backbone to share, of the configuration's section; None builds one.
    """
    if isinstance(config, SegmentationConfig):
        return Segmenter(config, backbone)
    return MaskSegmenter(config, backbone)
