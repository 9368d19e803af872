"""Preparation of a picture for a 2D detector: size, normalisation, padding, stacking."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.detection2d import PictureConfig
from bevstack.types.pictures2d import PictureBatch, PictureObjects, PictureSize

# ImageNet's mean and deviation of red, green and blue, of 255.
MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])


def fitted_size(
    size: tuple[int, int],  # height, width
    *,
    long_side: int,
    short_side: int,
) -> tuple[int, int]:
    """Return the largest size of the same shape whose sides are within the limits."""
    scale = min(long_side / max(size), short_side / min(size))
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width


def check_picture(name: str, picture: NDArray[np.uint8]) -> None:
    """Check that an array is an RGB picture.

    Raises:
        ValueError: it is not, or it has no pixel.
    """
    fits = picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    if not fits or not picture.size:
        raise ValueError(
            f"{name} must be an array of uint8 and shape (height, width, 3) in the order red, "
            f"green, blue; got {picture.dtype} of shape {picture.shape}"
        )


def resize_picture(
    picture: NDArray[np.uint8],  # (H, W, 3)
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Return the picture at another size, interpolated bilinearly."""
    resized = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def normalised(
    picture: NDArray[np.uint8],  # (H, W, 3) RGB
) -> Tensor:  # (3, H, W)
    """Return the network's input of a picture at its final size."""
    values = (picture - MEAN.astype(np.float32)) * (1 / STD).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def padded_side(side: int, multiple: int) -> int:
    """Return the smallest multiple that is at least the side."""
    return -(-side // multiple) * multiple


def picture_size(
    original: tuple[int, int], resized: tuple[int, int], config: PictureConfig
) -> PictureSize:
    """Return all sizes of a picture."""
    height, width = (padded_side(side, config.pad_to) for side in resized)
    return PictureSize(original=original, resized=resized, padded=(height, width))


def prepare_picture(
    picture: NDArray[np.uint8],  # (H, W, 3) RGB
    config: PictureConfig,
) -> tuple[Tensor, PictureSize]:  # (3, H', W') without padding
    """Prepare a picture as for a test: as large as fits, normalised.

    Raises:
        ValueError: the array is no picture.
    """
    check_picture("picture", picture)
    original = (int(picture.shape[0]), int(picture.shape[1]))
    limits = {"long_side": config.long_side, "short_side": config.short_side}
    size = fitted_size(original, **limits)
    return normalised(resize_picture(picture, size)), picture_size(original, size, config)


def stack_pictures(
    images: Sequence[Tensor],  # B x (3, H_b, W_b)
    sizes: Sequence[PictureSize],
    names: Sequence[str],
    objects: Sequence[PictureObjects] = (),
    seeds: Sequence[int] = (),
) -> PictureBatch:
    """Pad pictures and masks right and below with zeros to the largest padded size."""
    height = max(size.padded[0] for size in sizes)
    width = max(size.padded[1] for size in sizes)
    return PictureBatch(
        images=torch.stack([_padded(image, height, width) for image in images]),
        sizes=tuple(sizes),
        names=tuple(names),
        objects=tuple(
            PictureObjects(
                boxes=own.boxes,
                labels=own.labels,
                masks=None if own.masks is None else _padded(own.masks, height, width),
            )
            for own in objects
        ),
        seeds=tuple(seeds),
    )


def _padded(
    maps: Tensor,  # (..., H, W)
    height: int,
    width: int,
) -> Tensor:  # (..., height, width)
    missing = (0, width - maps.shape[-1], 0, height - maps.shape[-2])
    return torch.nn.functional.pad(maps, missing)
