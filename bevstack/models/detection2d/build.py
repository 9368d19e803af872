"""Building of the model of any detector for single pictures."""

from __future__ import annotations

from typing import TypeAlias

from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.picture_detectors import PictureDetectorConfig
from bevstack.models.backbones.composite import CompositeInternImage
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.detection2d.dino.model import Dino
from bevstack.models.detection2d.model import RegionDetector

PictureModel: TypeAlias = RegionDetector | Dino


def build_picture_model(
    config: PictureDetectorConfig,
    backbone: InternImage | CompositeInternImage | None = None,
) -> PictureModel:
    """Build a detector, with initial weights and in training mode.

    Args:
        config: the detector.
        backbone: a backbone to share, of the configuration's section; None builds one.
    """
    if isinstance(config, Detection2DConfig):
        assert not isinstance(backbone, CompositeInternImage)
        return RegionDetector(config, backbone)
    return Dino(config, backbone)
