"""Detection of objects in single pictures, with masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.picture_detectors import (
    PictureDetectorConfig,
    picture_detector_from_json,
)
from bevstack.datasets.detection2d.prepare import prepare_picture, stack_pictures
from bevstack.models.build_detection2d import detector2d_with
from bevstack.models.detection2d.build import PictureModel, build_picture_model
from bevstack.models.detection2d.masks import paste_masks
from bevstack.runtime.picture_predictor import Picture, PicturePredictor
from bevstack.types.pictures2d import Detections2D


class PictureDetector(PicturePredictor[PictureModel, PictureDetectorConfig]):
    """A detector for pictures of any size; see ``PicturePredictor``."""

    @staticmethod
    def load(
        weights: Mapping[str, Tensor], config_json: str, device: torch.device
    ) -> PictureDetector:
        """Build a detector from a weights file's tensors and configuration.

        Raises:
            ValueError: the configuration cannot be read, or the weights do not fit it.
        """
        config = picture_detector_from_json(config_json)
        return PictureDetector.with_weights(weights, config, device)

    @staticmethod
    def with_weights(
        weights: Mapping[str, Tensor], config: PictureDetectorConfig, device: torch.device
    ) -> PictureDetector:
        """Build a detector from weights.

        Raises:
            ValueError: the weights do not fit the configuration.
        """
        return PictureDetector(detector2d_with(weights, config, device), config)

    @staticmethod
    def random(config: PictureDetectorConfig, device: torch.device) -> PictureDetector:
        """Build a detector with random weights, to test an installation."""
        return PictureDetector(build_picture_model(config).to(device).eval(), config)

    def detect(
        self,
        pictures: Sequence[Picture],
    ) -> list[Detections2D]:
        """Return the objects of each picture, best first, in its own pixels and on the CPU.

        Each picture is computed by itself, so that results do not depend on its neighbours.
        ``masks`` gives their masks.

        Raises:
            ValueError: an array is no RGB picture of uint8.
        """
        return [self._detect(picture) for picture in pictures]

    def _detect(self, picture: Picture) -> Detections2D:
        image, size = prepare_picture(picture, self.config.pictures)
        batch = stack_pictures([image], [size], ["picture"]).to(self.device)
        (found,) = self.model.detect(batch)
        return found.to("cpu")

    @property
    def has_masks(self) -> bool:
        """Return True if detections have masks."""
        return isinstance(self.config, Detection2DConfig)

    def masks(
        self, found: Detections2D, size: tuple[int, int]
    ) -> Iterator[NDArray[np.bool_]]:  # D x (H, W)
        """Yield the mask of each object in a picture of the given height and width.

        One mask is made at a time: a hundred masks of a large picture take gigabytes.

        Raises:
            ValueError: the detections have no masks.
        """
        if found.mask_values is None or not isinstance(self.config, Detection2DConfig):
            raise ValueError("detections must have mask_values; got none")
        for row in range(len(found)):
            pasted = paste_masks(
                found.mask_values[row : row + 1],
                found.boxes[row : row + 1],
                size,
                threshold=self.config.roi.mask_threshold,
            )
            yield pasted[0].numpy()
