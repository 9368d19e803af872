"""Batches for training and evaluation, the same whatever the number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bevstack.config import Config
from bevstack.datasets.augment import PixelAugmentation, draw_augmentation
from bevstack.datasets.clips import load_clip
from bevstack.datasets.collate import PreparedClip, prepare_clip, stack_clips
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Batch, Clip


def collate(clips: Sequence[Clip], config: Config) -> Batch:
    """Clips as one batch without augmentation; rigs, image sizes and camera counts may differ.

    Raises:
        ValueError: no clip, or clips that do not fit together.
    """
    return stack_clips([prepare_clip(clip, config) for clip in clips])


def make_training_loader(
    dataset: NuScenesDataset,
    config: Config,
    *,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    keep_empty_boxes: bool = False,
    pin_memory: bool = False,
) -> BatchStream:
    """An endless stream of augmented batches with annotations.

    Epoch e visits the samples in a permutation drawn from (seed, e); an epoch's end may fall into
    the middle of a batch. The stream is a function of the configuration and the position alone:
    with ``start`` it goes on with the very samples and augmentations of a run that was stopped,
    and it does not depend on ``num_workers``.

    Args:
        dataset: the training samples.
        config: batch size (over all processes), workers, seed, augmentation, images, grid.
        start: samples seen before, over all processes.
        rank: which process this is; it gets every ``world_size``-th sample of each batch.
        world_size: number of processes.
        keep_empty_boxes: also learn boxes that no lidar or radar point fell into, which scoring
            leaves out and the published recipe does too (its ``valid_flag``).
        pin_memory: images in page-locked memory, for a model on a GPU.

    Raises:
        ValueError: an empty data set, or a batch size that the processes cannot share evenly.
    """
    recipe = config.training
    if not len(dataset):
        raise ValueError("dataset must hold at least one sample; got none")
    if start < 0 or recipe.batch_size % world_size:
        raise ValueError(
            f"start must be >= 0 and training.batch_size a multiple of the {world_size} processes; "
            f"got start {start} and batch_size {recipe.batch_size}"
        )
    order = _TrainingOrder(len(dataset), recipe.batch_size, recipe.seed, start, rank, world_size)
    samples = _TrainingSamples(dataset, config, keep_empty_boxes=keep_empty_boxes)
    return BatchStream(samples, order, num_workers=recipe.num_workers, pin_memory=pin_memory)


def make_evaluation_loader(
    dataset: NuScenesDataset,
    config: Config,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
) -> BatchStream:
    """Every sample once, in order, without augmentation; the last batch may be smaller."""
    items = [(0, index) for index in range(len(dataset))]
    order = [items[first : first + batch_size] for first in range(0, len(items), batch_size)]
    return BatchStream(_Samples(dataset, config), order, num_workers=num_workers)


class BatchStream:
    """Batches made by worker processes; an error in one of them is raised here, as it was."""

    def __init__(
        self,
        samples: Dataset[PreparedClip | LoadingError],
        order: Sequence[list[Item]] | _TrainingOrder,
        *,
        num_workers: int,
        pin_memory: bool = False,
    ) -> None:
        # A generator of its own: DataLoader would draw from the global one, which a resumed run
        # needs in the state that the interrupted run had.
        self._loader = DataLoader(
            samples,
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=_stack,
            worker_init_fn=_use_one_thread,
            generator=torch.Generator(),
            pin_memory=pin_memory,
        )

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, LoadingError):
                raise batch.error
            yield batch


Item = tuple[int, int]  # epoch, index of the sample


@dataclass(frozen=True)
class LoadingError:
    """An error on its way from a worker process."""

    error: Exception


@dataclass(frozen=True)
class _TrainingOrder:
    """The items of each batch of one process, endless."""

    num_samples: int
    batch_size: int
    seed: int
    start: int
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[list[Item]]:
        position = self.start
        epoch = -1
        permutation = np.empty(0, dtype=np.int64)
        while True:
            batch = []
            for place in range(position, position + self.batch_size):
                if place // self.num_samples != epoch:
                    epoch = place // self.num_samples
                    generator = np.random.default_rng((self.seed, epoch))
                    permutation = generator.permutation(self.num_samples)
                batch.append((epoch, int(permutation[place % self.num_samples])))
            position += self.batch_size
            yield batch[self.rank :: self.world_size]


class _Samples(Dataset[PreparedClip | LoadingError]):
    """Prepared clips by (epoch, index), as they are."""

    def __init__(self, dataset: NuScenesDataset, config: Config) -> None:
        self._dataset = dataset
        self._config = config

    def __getitem__(self, item: Item) -> PreparedClip | LoadingError:
        epoch, index = item
        try:
            clip = load_clip(
                self._dataset,
                index,
                self._config.frames,
                camera_annotations=self._config.perspective is not None,
            )
            return self._prepare(clip, epoch, index)
        except (ValueError, OSError) as error:  # what a caller can mend: told without traceback
            return LoadingError(error)

    def _prepare(self, clip: Clip, epoch: int, index: int) -> PreparedClip:
        return prepare_clip(clip, self._config)


class _TrainingSamples(_Samples):
    """Prepared clips by (epoch, index), augmented."""

    def __init__(self, dataset: NuScenesDataset, config: Config, *, keep_empty_boxes: bool) -> None:
        super().__init__(dataset, config)
        self._keep_empty_boxes = keep_empty_boxes

    def _prepare(self, clip: Clip, epoch: int, index: int) -> PreparedClip:
        config = self._config
        seed = config.training.seed
        images, bev = draw_augmentation(config.augmentation, seed, epoch, index)
        moved = bev if config.augmentation.moves_bev else None
        pixels = PixelAugmentation(config=config.augmentation, seed=seed, epoch=epoch, index=index)
        prepared = prepare_clip(clip, config, images, moved, pixels)
        if self._keep_empty_boxes or prepared.annotations is None:
            return prepared
        seen = prepared.annotations.num_points > 0
        return replace(prepared, annotations=prepared.annotations[seen])


def _stack(clips: list[PreparedClip | LoadingError]) -> Batch | LoadingError:
    errors = [clip for clip in clips if isinstance(clip, LoadingError)]
    if errors:
        return errors[0]
    return stack_clips([clip for clip in clips if isinstance(clip, PreparedClip)])


def _use_one_thread(_: int) -> None:
    """Workers are the parallelism: threads of their own would only compete."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
