"""Batches for training and evaluation, independent of the number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from bevstack.config import Config
from bevstack.datasets.augmentation.augment import PixelAugmentation, draw_augmentation, lose_camera
from bevstack.datasets.augmentation.mirror import draw_mirror, mirror_clip
from bevstack.datasets.batch_stream import (
    BatchStream,
    ClipLabels,
    LoadingError,
    PreparedSample,
    SkippedSample,
)
from bevstack.datasets.clips import load_clip
from bevstack.datasets.collate import prepare_clip, stack_clips
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sampling import (
    class_balanced_order,
    class_presence,
    earlier_draws,
    shuffled_order,
)
from bevstack.types import Batch, Clip


def collate(clips: Sequence[Clip], config: Config) -> Batch:
    """Combine clips into a batch without augmentation.

    Rigs, image sizes and camera counts may differ.

    Raises:
        ValueError: there is no clip, or the clips do not fit together.
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
    labels: Sequence[ClipLabels] = (),
) -> BatchStream:
    """Build an endless stream of augmented batches with annotations.

    Epoch e visits the samples in an order drawn from (seed, e). It visits each sample once, or, if
    ``sampling`` is "class_balanced", draws all classes equally often; a sample that is drawn again
    gets a new augmentation. An epoch may end within a batch. The stream is a function of the
    configuration and the position alone: with ``start`` it continues with exactly the samples and
    augmentations of a stopped run, and it does not depend on ``num_workers``.

    With ``accumulate``, a batch holds the part of a step's samples that go through the model
    together. Batches of the first ``perspective_steps`` steps hold current frames only, because the
    perspective stage does not use the other frames.

    If the files of a sample are missing or damaged, the stream raises the error, or, if
    ``on_bad_sample`` is "skip", replaces the sample by one drawn from (seed, epoch, sample).

    Args:
        dataset: the training samples.
        config: batch size (over all processes), workers, seed, augmentation, images, grid.
        start: number of samples used before, over all processes.
        rank: index of this process, which gets every ``world_size``-th sample of each batch.
        world_size: number of processes.
        keep_empty_boxes: also learn boxes without any lidar or radar point. Scoring and the
            published recipe (its ``valid_flag``) leave them out.
        pin_memory: allocate images in page-locked memory, for a model on a GPU.
        labels: labels of further tasks for the same samples.

    Raises:
        ValueError: the dataset is empty, the processes cannot share a batch evenly, or
            class-balanced sampling finds no true box.
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
        num_current_only=recipe.perspective_steps * recipe.batch_size,
    )
    samples = _TrainingSamples(dataset, config, keep_empty_boxes=keep_empty_boxes, labels=labels)
    return BatchStream(
        samples,
        order,
        epoch_length=order.epoch_length,
        num_workers=recipe.num_workers,
        pin_memory=pin_memory,
        labels=labels,
    )


class EpochOrder(Protocol):
    """Order of the samples of an epoch; every epoch has the same length."""

    def __call__(self, *, seed: int, epoch: int) -> NDArray[np.int64]:  # (n,)
        """Return the indices of the samples."""


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
    """Build a stream of every sample once, in order, without augmentation.

    The last batch may be smaller.
    """
    items = [Item(0, index) for index in range(len(dataset))]
    order = [items[first : first + batch_size] for first in range(0, len(items), batch_size)]
    samples = _Samples(dataset, config)
    return BatchStream(samples, order, epoch_length=len(items), num_workers=num_workers)


class Item(NamedTuple):
    """Key of one sample of a batch."""

    epoch: int
    draw: int  # the sample's index, plus the number of samples for each earlier draw in this epoch
    current_only: bool = False  # load the current frame without the other frames of its clip


REPLACEMENTS = 10  # samples tried instead of one that cannot be read


@dataclass(frozen=True)
class _TrainingOrder:
    """Endless sequence of the items of each batch of one process."""

    epoch_order: EpochOrder
    num_samples: int
    batch_size: int
    seed: int
    start: int
    rank: int
    world_size: int
    num_current_only: int = 0  # number of first samples that need the current frame only

    def __iter__(self) -> Iterator[list[Item]]:
        position = self.start
        length = self.epoch_length
        epoch = -1
        draws = np.empty(0, dtype=np.int64)
        while True:
            batch = []
            for sample in range(position, position + self.batch_size):
                if sample // length != epoch:
                    epoch = sample // length
                    draws = self._draws(epoch)
                    assert len(draws) == length  # EpochOrder
                draw = int(draws[sample % length])
                batch.append(Item(epoch, draw, sample < self.num_current_only))
            position += self.batch_size
            yield batch[self.rank :: self.world_size]

    @property
    def epoch_length(self) -> int:
        """Return the number of samples of an epoch, over all processes."""
        return len(self.epoch_order(seed=self.seed, epoch=0))

    def _draws(self, epoch: int) -> NDArray[np.int64]:  # (n,)
        order = self.epoch_order(seed=self.seed, epoch=epoch)
        return order + self.num_samples * earlier_draws(order)


class _Samples(Dataset[PreparedSample | LoadingError]):
    """Dataset of prepared clips by item, without augmentation."""

    def __init__(self, dataset: NuScenesDataset, config: Config) -> None:
        self._dataset = dataset
        self._config = config

    def __getitem__(self, item: Item) -> PreparedSample | LoadingError:
        return self._load(item)

    def _load(self, item: Item) -> PreparedSample | LoadingError:
        index = item.draw % len(self._dataset)
        try:
            clip = load_clip(
                self._dataset,
                index,
                (0,) if item.current_only else self._config.frames,
                camera_annotations=self._config.perspective is not None,
                images_for=self._config,
            )
            return self._prepare(clip, item)
        except (ValueError, OSError) as error:  # a caller can fix these: no traceback
            return LoadingError(self._dataset.sample_token(index), error)

    def _prepare(self, clip: Clip, item: Item) -> PreparedSample:
        return PreparedSample(prepare_clip(clip, self._config), ())


class _TrainingSamples(_Samples):
    """Dataset of prepared clips by item, augmented."""

    def __init__(
        self,
        dataset: NuScenesDataset,
        config: Config,
        *,
        keep_empty_boxes: bool,
        labels: Sequence[ClipLabels] = (),
    ) -> None:
        super().__init__(dataset, config)
        self._keep_empty_boxes = keep_empty_boxes
        self._labels = tuple(labels)

    def __getitem__(self, item: Item) -> PreparedSample | LoadingError:
        loaded = self._load(item)
        if self._config.training.on_bad_sample != "skip":
            return loaded
        skipped: list[SkippedSample] = []
        rng = np.random.default_rng((self._config.training.seed, item.epoch, item.draw, 1))
        for _ in range(REPLACEMENTS):
            if not isinstance(loaded, LoadingError):
                break
            skipped.append(SkippedSample(loaded.sample_token, str(loaded.error)))
            replacement = int(rng.integers(len(self._dataset)))
            loaded = self._load(item._replace(draw=replacement))
        if isinstance(loaded, LoadingError):
            return loaded
        return loaded._replace(skipped=tuple(skipped))

    def _prepare(self, clip: Clip, item: Item) -> PreparedSample:
        epoch, draw = item.epoch, item.draw
        config = self._config
        seed = config.training.seed
        images, bev = draw_augmentation(config.augmentation, seed, epoch, draw)
        bev_augmentation = bev if config.augmentation.moves_bev else None
        pixels = PixelAugmentation(config=config.augmentation, seed=seed, epoch=epoch, index=draw)
        if draw_mirror(config.augmentation, seed, epoch, draw):
            clip = mirror_clip(clip)
        lost = pixels.lost_camera(clip.current.num_cameras)
        clip = clip if lost is None else lose_camera(clip, lost)
        clip = pixels.corrupt(pixels.drop_pictures(clip))
        prepared = prepare_clip(clip, config, images, bev_augmentation, pixels)
        if not self._keep_empty_boxes and prepared.annotations is not None:
            has_points = prepared.annotations.num_points != 0
            prepared = replace(prepared, annotations=prepared.annotations[has_points])
        labels = tuple(source.prepare(clip, prepared) for source in self._labels)
        return PreparedSample(prepared, (), labels)
