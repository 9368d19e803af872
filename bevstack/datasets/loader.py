"""Batches for training and evaluation, the same whatever the number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bevstack.config import Config
from bevstack.datasets.augmentation.augment import PixelAugmentation, draw_augmentation, lose_camera
from bevstack.datasets.augmentation.mirror import draw_mirror, mirror_clip
from bevstack.datasets.clips import load_clip
from bevstack.datasets.collate import PreparedClip, prepare_clip, stack_clips
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sampling import (
    class_balanced_order,
    class_presence,
    earlier_draws,
    shuffled_order,
)
from bevstack.datasets.worker_process import settle_worker
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

    Epoch e visits the samples in an order drawn from (seed, e): each once, or, where ``sampling``
    is "class_balanced", such that all classes are seen equally often; a sample that comes again
    is then augmented anew. An epoch's end may fall into the middle of a batch. The stream is a
    function of the configuration and the position alone: with ``start`` it goes on with the very
    samples and augmentations of a run that was stopped, and it does not depend on
    ``num_workers``. With ``accumulate`` a batch is that part of a step's samples that go through
    the model together. Batches of ``perspective_steps`` hold current frames alone, as nothing looks
    at the others then.

    A sample whose files are missing or damaged raises what is wrong with it, or, where
    ``on_bad_sample`` is "skip", gives its place to another one, drawn from (seed, epoch, sample).

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
        ValueError: an empty data set, a batch size that the processes cannot share evenly, or
            class-balanced sampling without any true box.
    """
    recipe = config.training
    if not len(dataset):
        raise ValueError("dataset must hold at least one sample; got none")
    batch_size, rest = divmod(recipe.batch_size, recipe.accumulate)
    if start < 0 or rest or batch_size % world_size:
        passes = f" times {recipe.accumulate} passes" if recipe.accumulate > 1 else ""
        raise ValueError(
            f"start must be >= 0 and training.batch_size a multiple of the {world_size} processes"
            f"{passes}; got start {start} and batch_size {recipe.batch_size}"
        )
    order = _TrainingOrder(
        epoch_order=_epoch_order(dataset, recipe.sampling),
        num_samples=len(dataset),
        batch_size=batch_size,
        seed=recipe.seed,
        start=start,
        rank=rank,
        world_size=world_size,
        num_alone=recipe.perspective_steps * recipe.batch_size,
    )
    samples = _TrainingSamples(dataset, config, keep_empty_boxes=keep_empty_boxes)
    return BatchStream(
        samples,
        order,
        epoch_length=order.epoch_length,
        num_workers=recipe.num_workers,
        pin_memory=pin_memory,
    )


class EpochOrder(Protocol):
    """The samples of an epoch, as many in every epoch."""

    def __call__(self, *, seed: int, epoch: int) -> NDArray[np.int64]:  # (n,)
        """Indices of samples."""


def _epoch_order(dataset: NuScenesDataset, sampling: str) -> EpochOrder:
    if sampling == "class_balanced":
        return partial(class_balanced_order, class_presence(dataset))
    return partial(shuffled_order, len(dataset))


def make_evaluation_loader(
    dataset: NuScenesDataset,
    config: Config,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
) -> BatchStream:
    """Every sample once, in order, without augmentation; the last batch may be smaller."""
    items = [Item(0, index) for index in range(len(dataset))]
    order = [items[first : first + batch_size] for first in range(0, len(items), batch_size)]
    samples = _Samples(dataset, config)
    return BatchStream(samples, order, epoch_length=len(items), num_workers=num_workers)


class SkippedSample(NamedTuple):
    """A sample that gave its place to another one."""

    sample_token: str
    reason: str


class BatchStream:
    """Batches made by worker processes; an error in one of them is raised here.

    ``skipped`` lists the samples that were left out of the batches given so far.

    Args:
        samples: what makes one of a batch.
        order: the items of each batch.
        epoch_length: samples of an epoch, over all processes.
        num_workers: worker processes.
        pin_memory: images in page-locked memory.
    """

    def __init__(
        self,
        samples: Dataset[_Drawn | LoadingError],
        order: Sequence[list[Item]] | _TrainingOrder,
        *,
        epoch_length: int,
        num_workers: int,
        pin_memory: bool = False,
    ) -> None:
        self.epoch_length = epoch_length
        self.skipped: list[SkippedSample] = []
        # A generator of its own: DataLoader would draw from the global one, which a resumed run
        # needs in the state that the interrupted run had.
        self._loader = DataLoader(
            samples,
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=_stack,
            worker_init_fn=settle_worker,
            generator=torch.Generator(),
            pin_memory=pin_memory,
        )

    def __iter__(self) -> Iterator[Batch]:
        for stacked in self._loader:
            if isinstance(stacked, LoadingError):
                raise stacked.named()
            self.skipped += stacked.skipped
            yield stacked.batch


class Item(NamedTuple):
    """One place in a batch."""

    epoch: int
    draw: int  # the sample's index, plus the number of samples for each earlier draw in this epoch
    alone: bool = False  # the current frame without the others of its clip


REPLACEMENTS = 10  # samples tried in the place of one that cannot be read


@dataclass(frozen=True)
class LoadingError:
    """An error on its way from a worker process."""

    sample_token: str
    error: Exception

    def named(self) -> Exception:
        """The error as one of a plain kind that also says which sample it is of."""
        kinds = (FileNotFoundError, OSError, ValueError)
        kind = next(kind for kind in kinds if isinstance(self.error, kind))
        return kind(f"{self.error} (sample {self.sample_token})")


class _Drawn(NamedTuple):
    """A prepared clip, and the samples that it stands for."""

    clip: PreparedClip
    skipped: tuple[SkippedSample, ...]


class _Stacked(NamedTuple):
    """A batch on its way from a worker process."""

    batch: Batch
    skipped: tuple[SkippedSample, ...]


@dataclass(frozen=True)
class _TrainingOrder:
    """The items of each batch of one process, endless."""

    epoch_order: EpochOrder
    num_samples: int
    batch_size: int
    seed: int
    start: int
    rank: int
    world_size: int
    num_alone: int = 0  # samples, from the first on, of which the current frame is enough

    def __iter__(self) -> Iterator[list[Item]]:
        position = self.start
        length = self.epoch_length
        epoch = -1
        draws = np.empty(0, dtype=np.int64)
        while True:
            batch = []
            for place in range(position, position + self.batch_size):
                if place // length != epoch:
                    epoch = place // length
                    draws = self._draws(epoch)
                    assert len(draws) == length  # EpochOrder
                batch.append(Item(epoch, int(draws[place % length]), place < self.num_alone))
            position += self.batch_size
            yield batch[self.rank :: self.world_size]

    @property
    def epoch_length(self) -> int:
        """Samples of an epoch, over all processes."""
        return len(self.epoch_order(seed=self.seed, epoch=0))

    def _draws(self, epoch: int) -> NDArray[np.int64]:  # (n,)
        order = self.epoch_order(seed=self.seed, epoch=epoch)
        return order + self.num_samples * earlier_draws(order)


class _Samples(Dataset[_Drawn | LoadingError]):
    """Prepared clips by (epoch, index), as they are."""

    def __init__(self, dataset: NuScenesDataset, config: Config) -> None:
        self._dataset = dataset
        self._config = config

    def __getitem__(self, item: Item) -> _Drawn | LoadingError:
        found = self._load(item)
        return found if isinstance(found, LoadingError) else _Drawn(found, ())

    def _load(self, item: Item) -> PreparedClip | LoadingError:
        index = item.draw % len(self._dataset)
        try:
            clip = load_clip(
                self._dataset,
                index,
                (0,) if item.alone else self._config.frames,
                camera_annotations=self._config.perspective is not None,
                images_for=self._config,
            )
            return self._prepare(clip, item)
        except (ValueError, OSError) as error:  # what a caller can mend: told without traceback
            return LoadingError(self._dataset.sample_token(index), error)

    def _prepare(self, clip: Clip, item: Item) -> PreparedClip:
        return prepare_clip(clip, self._config)


class _TrainingSamples(_Samples):
    """Prepared clips by (epoch, index), augmented."""

    def __init__(self, dataset: NuScenesDataset, config: Config, *, keep_empty_boxes: bool) -> None:
        super().__init__(dataset, config)
        self._keep_empty_boxes = keep_empty_boxes

    def __getitem__(self, item: Item) -> _Drawn | LoadingError:
        found = self._load(item)
        if self._config.training.on_bad_sample != "skip":
            return found if isinstance(found, LoadingError) else _Drawn(found, ())
        skipped: list[SkippedSample] = []
        others = np.random.default_rng((self._config.training.seed, item.epoch, item.draw, 1))
        for _ in range(REPLACEMENTS):
            if not isinstance(found, LoadingError):
                return _Drawn(found, tuple(skipped))
            skipped.append(SkippedSample(found.sample_token, str(found.error)))
            other = int(others.integers(len(self._dataset)))
            found = self._load(item._replace(draw=other))
        return found if isinstance(found, LoadingError) else _Drawn(found, tuple(skipped))

    def _prepare(self, clip: Clip, item: Item) -> PreparedClip:
        epoch, draw = item.epoch, item.draw
        config = self._config
        seed = config.training.seed
        images, bev = draw_augmentation(config.augmentation, seed, epoch, draw)
        moved = bev if config.augmentation.moves_bev else None
        pixels = PixelAugmentation(config=config.augmentation, seed=seed, epoch=epoch, index=draw)
        if draw_mirror(config.augmentation, seed, epoch, draw):
            clip = mirror_clip(clip)
        lost = pixels.lost_camera(clip.current.num_cameras)
        clip = clip if lost is None else lose_camera(clip, lost)
        prepared = prepare_clip(clip, config, images, moved, pixels)
        if self._keep_empty_boxes or prepared.annotations is None:
            return prepared
        seen = prepared.annotations.num_points > 0
        return replace(prepared, annotations=prepared.annotations[seen])


def _stack(drawn: list[_Drawn | LoadingError]) -> _Stacked | LoadingError:
    errors = [one for one in drawn if isinstance(one, LoadingError)]
    if errors:
        return errors[0]
    good = [one for one in drawn if isinstance(one, _Drawn)]
    skipped = tuple(left_out for one in good for left_out in one.skipped)
    return _Stacked(stack_clips([one.clip for one in good]), skipped)
