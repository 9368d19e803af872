"""Augmentation of pictures in training: mirror, size and cut, with boxes and masks.

Letters: T objects, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.config.detection2d import PictureAugmentation, PictureConfig
from bevstack.datasets.detection2d.prepare import fitted_size, resize_picture

MAX_TRIES = 50  # cuts that are tried until an object remains


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and its objects."""

    picture: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (T, 4) left, top, right, bottom in pixels
    labels: NDArray[np.int64]  # (T,)
    masks: NDArray[np.uint8] | None  # (T, H, W); None: boxes alone

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return int(self.picture.shape[0]), int(self.picture.shape[1])

    def mirrored(self) -> LabelledPicture:
        """Return the mirror image, left and right exchanged."""
        width = self.picture.shape[1]
        boxes = self.boxes.copy()
        boxes[:, 0], boxes[:, 2] = width - self.boxes[:, 2], width - self.boxes[:, 0]
        return LabelledPicture(
            np.ascontiguousarray(self.picture[:, ::-1]),
            boxes,
            self.labels,
            None if self.masks is None else np.ascontiguousarray(self.masks[:, :, ::-1]),
        )

    def resized(self, size: tuple[int, int]) -> LabelledPicture:
        """Return the picture at another size; masks take the value of the nearest pixel."""
        height, width = size
        scale = np.array([width / self.size[1], height / self.size[0]] * 2, np.float32)
        limits = np.array([width, height] * 2, np.float32)
        return LabelledPicture(
            resize_picture(self.picture, size),
            np.clip(self.boxes * scale, 0, limits).astype(np.float32),
            self.labels,
            None if self.masks is None else _resize_masks(self.masks, size),
        )

    def cut(self, top: int, left: int, size: tuple[int, int]) -> LabelledPicture:
        """Return a part of the picture, and the objects that remain in it."""
        height, width = size
        shift, limits = np.array([left, top] * 2), np.array([width, height] * 2)
        boxes = np.clip(self.boxes - shift, 0, limits).astype(np.float32)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
        rows, columns = slice(top, top + height), slice(left, left + width)
        return LabelledPicture(
            np.ascontiguousarray(self.picture[rows, columns]),
            boxes[kept],
            self.labels[kept],
            None
            if self.masks is None
            else np.ascontiguousarray(self.masks[kept][:, rows, columns]),
        )


def _resize_masks(masks: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    resized = [cv2.resize(m, size[::-1], interpolation=cv2.INTER_NEAREST) for m in masks]
    return np.stack(resized).astype(np.uint8) if resized else np.zeros((0, *size), np.uint8)


def augment(
    sample: LabelledPicture,
    config: PictureAugmentation,
    pictures: PictureConfig,
    rng: np.random.Generator,
) -> LabelledPicture:
    """Return a changed picture at its final size, without padding."""
    if config.mirror and rng.random() < 0.5:
        sample = sample.mirrored()
    if config.crop_short_sides and rng.random() < 0.5:
        short = int(rng.choice(config.crop_short_sides))
        limits = {"long_side": config.crop_long_side, "short_side": short}
        sample = _cut_at_random(sample.resized(fitted_size(sample.size, **limits)), config, rng)
    sides = config.short_sides or (pictures.short_side,)
    size = fitted_size(sample.size, long_side=pictures.long_side, short_side=int(rng.choice(sides)))
    return sample.resized(size)


def _cut_at_random(
    sample: LabelledPicture, config: PictureAugmentation, rng: np.random.Generator
) -> LabelledPicture:
    low, high = config.crop_px
    for _ in range(MAX_TRIES):
        height, width = (
            int(rng.integers(min(side, low), min(side, high) + 1)) for side in sample.size
        )
        top = int(rng.integers(sample.size[0] - height + 1))
        left = int(rng.integers(sample.size[1] - width + 1))
        part = sample.cut(top, left, (height, width))
        if len(part.boxes) or not config.crop_keeps_object:
            return part
    return sample  # no cut of this picture holds an object
