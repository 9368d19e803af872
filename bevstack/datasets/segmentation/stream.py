"""Endless streams of batches of pictures with labelled pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from bevstack.config import TrainingConfig
from bevstack.config.segmenters import SegmenterConfig
from bevstack.datasets.detection2d.prepare import normalised
from bevstack.datasets.picture_batches import EndlessPictures
from bevstack.datasets.segmentation.augmentation import augment_labelled
from bevstack.datasets.segmentation.labelled import LabelledPictures
from bevstack.types.label_maps import LabelBatch
from bevstack.vocabulary import IGNORED_LABEL


class PreparedLabels(NamedTuple):
    """An augmented picture with its labels, at the size of the cut."""

    image: Tensor  # (3, H, W) normalised
    labels: Tensor  # (H, W) int64
    name: str
    seed: int  # of random numbers in the losses


class AugmentedLabels(NamedTuple):
    """Pictures with their labels, augmented as a configuration states."""

    pictures: LabelledPictures
    config: SegmenterConfig

    def picture_name(self, index: int) -> str:
        """Return the name of a picture."""
        return self.pictures.files[index].name

    def prepare(self, index: int, rng: np.random.Generator) -> PreparedLabels:
        """Read a picture and augment it with its labels.

        Right and below, a smaller picture is padded with zeros after normalisation, and its labels
        with 255.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file is damaged.
        """
        own, config = self.pictures.sample(index), self.config
        changed = augment_labelled(own, config.label_augmentation, config.pictures, rng)
        height, width = config.label_augmentation.crop_px
        down, across = height - changed.semantic.shape[0], width - changed.semantic.shape[1]
        labels = torch.from_numpy(changed.semantic.astype(np.int64))
        return PreparedLabels(
            pad(normalised(changed.image), (0, across, 0, down)),
            pad(labels, (0, across, 0, down), value=IGNORED_LABEL),
            self.picture_name(index),
            int(rng.integers(2**31)),
        )


class LabelStream(EndlessPictures[PreparedLabels, LabelBatch]):
    """Endless stream of augmented batches of pictures with labelled pixels.

    Args:
        pictures: the pictures, with the labels of the configuration's classes.
        config: sizes and augmentation.
        recipe: batch size, passes, seed and workers.
        start: pictures that the run has used before, over all processes.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        pictures: LabelledPictures,
        config: SegmenterConfig,
        *,
        recipe: TrainingConfig,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(
            AugmentedLabels(pictures, config),
            range(len(pictures)),
            stack=_stack,
            recipe=recipe,
            start=start,
            rank=rank,
            world_size=world_size,
        )


def _stack(samples: Sequence[PreparedLabels]) -> LabelBatch:
    return LabelBatch(
        images=torch.stack([item.image for item in samples]),
        labels=torch.stack([item.labels for item in samples]),
        names=tuple(item.name for item in samples),
        seeds=tuple(item.seed for item in samples),
    )
