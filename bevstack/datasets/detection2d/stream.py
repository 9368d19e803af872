"""Endless streams of batches of labelled pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bevstack.config import TrainingConfig
from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.picture_detectors import PictureDetectorConfig
from bevstack.datasets.batch_stream import LoadingError, SkippedSample
from bevstack.datasets.detection2d.augmentation import LabelledPicture, augment
from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.datasets.detection2d.prepare import normalised, picture_size, stack_pictures
from bevstack.datasets.worker_process import initialise_worker
from bevstack.types.pictures2d import PictureBatch, PictureObjects, PictureSize

REPLACEMENTS = 10  # pictures tried instead of one that cannot be read
_Key = tuple[int, int]  # epoch, and position in it


class PreparedPicture(NamedTuple):
    """An augmented picture with its objects."""

    image: Tensor  # (3, H, W)
    size: PictureSize
    name: str
    objects: PictureObjects
    seed: int
    skipped: tuple[SkippedSample, ...]


class PictureStream:
    """Endless stream of augmented batches; a function of recipe and position alone.

    An epoch visits each picture that holds an object once, in random order. ``skipped`` lists the
    pictures that were left out so far.

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
        per_pass, rest = divmod(recipe.batch_size, recipe.accumulate)
        if start < 0 or rest or per_pass % world_size:
            raise ValueError(
                f"start must be >= 0 and the {recipe.batch_size} pictures of a step a multiple of "
                f"{recipe.accumulate} passes times {world_size} processes; got start {start}"
            )
        self.epoch_length = len(indices)
        self.skipped: list[SkippedSample] = []
        self._loader = DataLoader(
            _Augmented(dataset, config, recipe=recipe, indices=indices),
            batch_sampler=_Order(len(indices), start, per_pass, rank, world_size),
            num_workers=recipe.num_workers,
            collate_fn=_stack,
            worker_init_fn=initialise_worker,
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[PictureBatch]:
        for stacked in self._loader:
            if isinstance(stacked, LoadingError):
                raise stacked.named()
            batch, skipped = stacked
            self.skipped += skipped
            yield batch


@dataclass(frozen=True)
class _Order:
    """Endless sequence of the keys of each batch of one process."""

    length: int
    start: int
    batch_size: int
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[list[_Key]]:
        position = self.start
        while True:
            numbers = range(position, position + self.batch_size)
            keys = [divmod(number, self.length) for number in numbers]
            position += self.batch_size
            yield keys[self.rank :: self.world_size]


class _Augmented(Dataset[PreparedPicture | LoadingError]):
    """Dataset of augmented pictures by (epoch, position)."""

    def __init__(
        self,
        dataset: CocoDataset,
        config: PictureDetectorConfig,
        *,
        recipe: TrainingConfig,
        indices: list[int],
    ) -> None:
        self.dataset, self.config, self.recipe, self.indices = dataset, config, recipe, indices

    def __getitem__(self, key: _Key) -> PreparedPicture | LoadingError:
        epoch, position = key
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.indices))
        rng = np.random.default_rng((self.recipe.seed, epoch, position, 1))
        index = self.indices[int(order[position])]
        skipped: list[SkippedSample] = []
        for _ in range(REPLACEMENTS + 1):
            try:
                return prepare_sample(self.dataset, index, self.config, rng, tuple(skipped))
            except (ValueError, OSError) as error:  # a caller can fix these: no traceback
                name = self.dataset.pictures[index].file_name
                if self.recipe.on_bad_sample != "skip" or len(skipped) == REPLACEMENTS:
                    return LoadingError(name, error)
                skipped.append(SkippedSample(name, str(error)))
                index = self.indices[int(rng.integers(len(self.indices)))]
        raise AssertionError  # the loop returns


def prepare_sample(
    dataset: CocoDataset,
    index: int,
    config: PictureDetectorConfig,
    rng: np.random.Generator,
    skipped: tuple[SkippedSample, ...] = (),
) -> PreparedPicture:
    """Read a picture and augment it with its objects.

    Raises:
        FileNotFoundError: the picture does not exist.
        ValueError: the picture or a mask is damaged.
    """
    own = dataset.pictures[index]
    sample = LabelledPicture(
        dataset.picture(index),
        np.array([item.box for item in own.objects], np.float32).reshape(-1, 4),
        np.array([item.label for item in own.objects], np.int64),
        dataset.masks(index) if isinstance(config, Detection2DConfig) else None,
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
        skipped,
    )


def _stack(
    loaded: list[PreparedPicture | LoadingError],
) -> tuple[PictureBatch, list[SkippedSample]] | LoadingError:
    errors = [item for item in loaded if isinstance(item, LoadingError)]
    if errors:
        return errors[0]
    good = [item for item in loaded if isinstance(item, PreparedPicture)]
    skipped = [skip for item in good for skip in item.skipped]
    batch = stack_pictures(
        [item.image for item in good],
        [item.size for item in good],
        [item.name for item in good],
        [item.objects for item in good],
        [item.seed for item in good],
    )
    return batch, skipped
