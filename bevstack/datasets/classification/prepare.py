"""Preparation of a picture for a classifier, as in the released test of InternImage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.detection2d.prepare import check_picture, normalised


def prepare_classified(
    picture: NDArray[np.uint8],  # (H, W, 3) RGB
    side: int,
) -> Tensor:  # (3, side, side)
    """Return the network's input: the shorter side resized, the middle square, normalised.

    The resize is Pillow's bicubic one, which smooths when it makes a picture smaller. The longer
    side is cut to whole pixels after it.

    Raises:
        ValueError: the array is no picture.
    """
    from PIL import Image

    check_picture("picture", picture)
    height, width = picture.shape[:2]
    shorter = min(height, width)
    size = (int(side * width / shorter), int(side * height / shorter))
    resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    left, top = (round((long - side) / 2.0) for long in size)
    middle = np.array(resized.crop((left, top, left + side, top + side)))
    return normalised(middle)
