"""Augmentation of pictures and the labels of their pixels in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.config.segmentation import LabelAugmentation, LabelledSizeConfig
from bevstack.datasets.augmentation.label_maps import (
    crop_labelled,
    mirror_labelled,
    resize_labelled,
)
from bevstack.datasets.augmentation.photometric import draw_photometric
from bevstack.datasets.detection2d.prepare import fitted_size
from bevstack.types.label_maps import LabelledPicture
from bevstack.vocabulary import IGNORED_LABEL

MAX_CUTS = 10  # that are tried for one with several classes


def augment_labelled(
    picture: LabelledPicture,
    config: LabelAugmentation,
    sizes: LabelledSizeConfig,
    rng: np.random.Generator,
) -> LabelledPicture:
    """Return a changed picture with its labels, of at most the size of the cut.

    The order is that of the released training: size, cut, mirror, colours.
    """
    size = (int(picture.image.shape[0]), int(picture.image.shape[1]))
    ratio = rng.uniform(*config.resize)
    long_side, short_side = (
        max(int(side * ratio), 1) for side in (sizes.long_side, sizes.short_side)
    )
    size = fitted_size(size, long_side=long_side, short_side=short_side)
    part = _cut(resize_labelled(picture, size), config, rng)
    if config.mirror and rng.random() < 0.5:
        part = mirror_labelled(part)
    if not config.photometric:
        return part
    return LabelledPicture(image=draw_photometric(rng).apply(part.image), semantic=part.semantic)


def _cut(
    picture: LabelledPicture, config: LabelAugmentation, rng: np.random.Generator
) -> LabelledPicture:
    """Cut a part out at random; again while one class has too large a share of it."""
    height, width = picture.semantic.shape
    part_height, part_width = min(config.crop_px[0], height), min(config.crop_px[1], width)
    for _ in range(MAX_CUTS):
        top = int(rng.integers(height - part_height + 1))
        left = int(rng.integers(width - part_width + 1))
        part = crop_labelled(picture, (top, left), (part_height, part_width))
        if config.max_share == 1 or largest_share(part.semantic) < config.max_share:
            break
    return part


def largest_share(
    labels: NDArray[np.uint8],  # (H, W)
) -> float:
    """Return the share of the labelled pixels that have the most frequent label; 1 without any."""
    counts = np.bincount(labels[labels != IGNORED_LABEL])
    return float(counts.max() / counts.sum()) if counts.size else 1.0
