"""Endless streams of batches of pictures with labelled objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bevstack.config import TrainingConfig
from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.picture_detectors import PictureDetectorConfig
from bevstack.datasets.detection2d.augmentation import LabelledPicture, augment
from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.datasets.detection2d.prepare import normalised, picture_size, stack_pictures
from bevstack.datasets.picture_batches import EndlessPictures
from bevstack.types.pictures2d import PictureBatch, PictureObjects, PictureSize


class PreparedPicture(NamedTuple):
    """An augmented picture with its objects."""

    image: Tensor  # (3, H, W)
    size: PictureSize
    name: str
    objects: PictureObjects
    seed: int


class PictureStream(EndlessPictures[PreparedPicture, PictureBatch]):
    """Endless stream of augmented batches of the pictures that hold an object.

    Args:
        dataset: the pictures.
        config: sizes and augmentation.
        recipe: batch size, passes, seed and workers.
        start: pictures that the run has used before, over all processes.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: no picture holds an object, or the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        config: PictureDetectorConfig,
        *,
        recipe: TrainingConfig,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        indices = dataset.trainable()
        if not indices:
            raise ValueError(
                f"{dataset.annotations} must hold an object that is no crowd; got none in "
                f"{len(dataset)} pictures"
            )
        super().__init__(
            ObjectPictures(dataset, config),
            indices,
            stack=_stack,
            recipe=recipe,
            start=start,
            rank=rank,
            world_size=world_size,
        )


class ObjectPictures(NamedTuple):
    """Pictures with their objects, augmented as a configuration states."""

    dataset: CocoDataset
    config: PictureDetectorConfig

    def picture_name(self, index: int) -> str:
        """Return the name of a picture's file."""
        return self.dataset.pictures[index].file_name

    def prepare(self, index: int, rng: np.random.Generator) -> PreparedPicture:
        """Read a picture and augment it with its objects.

        Raises:
            FileNotFoundError: the picture does not exist.
            ValueError: the picture or a mask is damaged.
        """
        own, config = self.dataset.pictures[index], self.config
        sample = LabelledPicture(
            self.dataset.picture(index),
            np.array([item.box for item in own.objects], np.float32).reshape(-1, 4),
            np.array([item.label for item in own.objects], np.int64),
            self.dataset.masks(index) if isinstance(config, Detection2DConfig) else None,
        )
        changed = augment(sample, config.picture_augmentation, config.pictures, rng)
        return PreparedPicture(
            normalised(changed.picture),
            picture_size(own.size, changed.size, config.pictures),
            own.file_name,
            PictureObjects(
                boxes=torch.from_numpy(changed.boxes),
                labels=torch.from_numpy(changed.labels),
                masks=None if changed.masks is None else torch.from_numpy(changed.masks),
            ),
            int(rng.integers(2**62)),
        )


def _stack(samples: Sequence[PreparedPicture]) -> PictureBatch:
    return stack_pictures(
        [item.image for item in samples],
        [item.size for item in samples],
        [item.name for item in samples],
        [item.objects for item in samples],
        [item.seed for item in samples],
    )
