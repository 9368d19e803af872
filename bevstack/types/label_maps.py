"""A picture with a label at each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
