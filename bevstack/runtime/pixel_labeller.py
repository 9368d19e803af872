"""Labels of the pixels of single pictures, of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.segmenters import SegmenterConfig, segmenter_from_json
from bevstack.models.build_segmentation import segmenter_with
from bevstack.models.segmentation.build import PixelModel
from bevstack.runtime.picture_predictor import Picture, PicturePredictor
from bevstack.tasks.segmentation_held_out import label_pixels

# Factors of the size of pictures that the authors publish for the mean over several scales.
PUBLISHED_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
# The same of Mask2Former for ADE20K, whose pictures have 896 pixels.
PUBLISHED_MASK_RATIOS = (768 / 896, 832 / 896, 1.0, 960 / 896, 1024 / 896)


class PixelLabeller(PicturePredictor[PixelModel, SegmenterConfig]):
    """A model that labels the pixels of pictures; see ``PicturePredictor``."""

    @staticmethod
    def load(
        weights: Mapping[str, Tensor], config_json: str, device: torch.device
    ) -> PixelLabeller:
        """Build a model from a weights file's tensors and configuration.

        Raises:
            ValueError: the configuration cannot be read, or the weights do not fit it.
        """
        config = segmenter_from_json(config_json)
        return PixelLabeller(segmenter_with(weights, config, device), config)

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
