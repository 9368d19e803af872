"""Preparation of a picture for a model that labels pixels: size and normalisation, no padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.segmentation import LabelledSizeConfig
from bevstack.datasets.detection2d.prepare import (
    check_picture,
    fitted_size,
    normalised,
    padded_side,
    resize_picture,
)


def prepare_labelled(
    picture: NDArray[np.uint8],  # (H, W, 3) RGB
    config: LabelledSizeConfig,
    *,
    ratio: float = 1.0,
) -> Tensor:  # (3, H', W')
    """Return the network's input of a picture, as in the released test.

    The picture is resized to fit, then again to sides that are multiples, as published: two
    interpolations, of which the second changes the ratio of the sides a little.

    Args:
        picture: of any size.
        config: sizes.
        ratio: factor of both limits of the size, for several scales.

    Raises:
        ValueError: the array is no picture, or the ratio is not positive.
    """
    check_picture("picture", picture)
    if not ratio > 0:
        raise ValueError(f"ratio must be positive; got {ratio}")
    original = (int(picture.shape[0]), int(picture.shape[1]))
    limits = [int(side * ratio + 0.5) for side in (config.long_side, config.short_side)]
    size = fitted_size(original, long_side=max(limits[0], 1), short_side=max(limits[1], 1))
    resized = resize_picture(picture, size)
    height, width = (padded_side(side, config.multiple) for side in size)
    if (height, width) != size:
        resized = resize_picture(resized, (height, width))
    return normalised(resized)
