"""Pictures with a label at each pixel, alone and in batches. Letters: B batch, H W pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LabelledPicture:
    """An image, the class of each of its pixels and, where it is known, their depth.

    Raises:
        ValueError: the arrays have different sizes or other kinds of values.
    """

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    semantic: NDArray[np.uint8]  # (H, W) label; 255: none (`vocabulary.IGNORED_LABEL`)
    depth_m: NDArray[np.float32] | None = None  # (H, W) along the optical axis; nan: none

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        if self.image.shape != (*size, 3) or self.image.dtype != np.uint8:
            raise ValueError(
                f"image must be (H, W, 3) of uint8; got {self.image.shape} of {self.image.dtype}"
            )
        if self.semantic.shape != size or self.semantic.dtype != np.uint8:
            raise ValueError(
                f"semantic must be {size} of uint8; "
                f"got {self.semantic.shape} of {self.semantic.dtype}"
            )
        if self.depth_m is not None and self.depth_m.shape != size:
            raise ValueError(f"depth_m must be {size}; got {self.depth_m.shape}")


@dataclass(frozen=True, kw_only=True)
class LabelBatch:
    """Pictures of one pass with the labels of their pixels."""

    images: Tensor  # (B, 3, H, W) normalised, zero in the padding
    labels: Tensor  # (B, H, W) int64; 255: none, as in the padding
    names: tuple[str, ...]  # B, for messages
    seeds: tuple[int, ...] = ()  # B in training: of the points at which masks are compared

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """Return the names of the pictures."""
        return self.names

    @property
    def num_images(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

    def to(self, device: torch.device | str) -> LabelBatch:
        """Return the batch on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))
