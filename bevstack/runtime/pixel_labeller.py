"""Labels of the pixels of single pictures, of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.segmentation import SegmentationConfig
from bevstack.config.serialization import union_from_json
from bevstack.models.build_segmentation import segmenter_with
from bevstack.models.segmentation.model import Segmenter
from bevstack.tasks.segmentation_held_out import label_pixels

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
# Factors of the size of pictures that the authors publish for the mean over several scales.
PUBLISHED_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


class PixelLabeller:
    """A model that labels the pixels of pictures.

    It keeps no state: several threads may use it.

    Args:
        model: the model, in evaluation mode.
        config: its configuration.
    """

    def __init__(self, model: Segmenter, config: SegmentationConfig) -> None:
        self.model = model
        self.config = config

    @staticmethod
    def load(
        weights: Mapping[str, Tensor], config_json: str, device: torch.device
    ) -> PixelLabeller:
        """Build a model from a weights file's tensors and configuration.

        Raises:
            ValueError: the configuration cannot be read, or the weights do not fit it.
        """
        config = union_from_json(SegmentationConfig, config_json)
        return PixelLabeller(segmenter_with(weights, config, device), config)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the labels."""
        return self.config.class_names

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return next(self.model.parameters()).device

    def segment(
        self,
        pictures: Sequence[Picture],
        *,
        ratios: Sequence[float] = (1.0,),
        mirror: bool = False,
    ) -> list[NDArray[np.uint8]]:  # (H, W) each
        """Return the label of each pixel of each picture.

        Each picture is computed by itself. Labels from the number of ``class_names`` on can occur
        if the model has more outputs than classes, as the released ones of Cityscapes.

        Args:
            pictures: RGB, of any size.
            ratios: factors of the size at the network's input; several are averaged.
            mirror: average with the mirrored picture too.

        Raises:
            ValueError: an array is no RGB picture of uint8, or a ratio is not positive.
        """
        return [
            label_pixels(self.model, picture, ratios=ratios, mirror=mirror) for picture in pictures
        ]
