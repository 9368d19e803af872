"""Input of exported models of single pictures."""

from __future__ import annotations

from torch import Tensor

from bevstack.datasets.detection2d.prepare import MEAN, STD
from bevstack.geometry import constant


def normalised_pictures(
    images: Tensor,  # (B, H, W, 3) uint8 RGB
) -> Tensor:  # (B, 3, H, W)
    """Return the network's input of pictures, as ``datasets.detection2d.prepare.normalised``."""
    pixels = images.permute(0, 3, 1, 2).float()
    mean, scale = (constant(pixels, values.tolist())[:, None, None] for values in (MEAN, 1 / STD))
    return (pixels - mean) * scale
