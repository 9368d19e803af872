"""Streams of batches of the traffic view, and its labels for clips of other tasks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from bevstack.config import TrainingConfig
from bevstack.config.traffic import TrafficConfig
from bevstack.datasets.batch_stream import LoadingError, SkippedSample
from bevstack.datasets.collate import PreparedClip
from bevstack.datasets.traffic_view.augmentation import (
    TrafficAugmentation,
    draw_traffic_augmentation,
)
from bevstack.datasets.traffic_view.balance import balanced_order, repeat_factors, state_presence
from bevstack.datasets.traffic_view.labels import ElementIndex
from bevstack.datasets.traffic_view.samples import FrontSamples, TrafficSample, stack_samples
from bevstack.datasets.worker_process import initialise_worker
from bevstack.types import Clip
from bevstack.types.traffic_batch import TrafficBatch

TASK = "traffic"
REPLACEMENTS = 10  # samples tried instead of one that cannot be read
_Key = tuple[int, int]  # epoch, and position in it


class ViewSamples(Protocol):
    """Samples of the traffic view: front cameras of a data set, or single pictures."""

    @property
    def index(self) -> ElementIndex | None:
        """Return the labels; None: there are none."""

    @property
    def config(self) -> TrafficConfig:
        """Return the traffic section."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def token(self, index: int) -> str:
        """Return the token of a sample."""

    def prepare(self, index: int, augmentation: TrafficAugmentation | None = None) -> TrafficSample:
        """Read a sample and prepare it with its labels."""


class TrafficStream:
    """Endless stream of augmented batches with labels; a function of recipe and position alone.

    An epoch visits each frame at least once, and frames of rare states more often. ``skipped``
    lists the samples that were left out so far.

    Args:
        samples: front cameras or pictures, with labels.
        recipe: batch size, passes, seed and workers.
        start: samples that the run has used before, over all processes.
        rank: number of this process among ``world_size``.
        world_size: number of processes.
        pin_memory: allocate images in page-locked memory.

    Raises:
        ValueError: there are no samples or labels, or the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        samples: ViewSamples,
        recipe: TrainingConfig,
        *,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
    ) -> None:
        if not len(samples) or samples.index is None:
            raise ValueError(
                f"samples must hold a sample with labels; got {len(samples)} samples "
                f"{'without' if samples.index is None else 'with'} labels"
            )
        per_pass, rest = divmod(recipe.batch_size, recipe.accumulate)
        if start < 0 or rest or per_pass % world_size:
            raise ValueError(
                f"start must be >= 0 and the {recipe.batch_size} samples of a step a multiple of "
                f"{recipe.accumulate} passes times {world_size} processes; got start {start}"
            )
        tokens = [samples.token(row) for row in range(len(samples))]
        presence = state_presence(samples.index, tokens)
        factors = repeat_factors(presence, samples.config.balance)
        order = _Order(factors, recipe.seed, start, per_pass, rank, world_size)
        self.epoch_length = order.epoch_length
        self.skipped: list[SkippedSample] = []
        self._loader = DataLoader(
            _Augmented(samples, factors, recipe=recipe),
            batch_sampler=order,
            num_workers=recipe.num_workers,
            collate_fn=_stack,
            worker_init_fn=initialise_worker,
            generator=torch.Generator(),
            pin_memory=pin_memory,
        )

    def __iter__(self) -> Iterator[TrafficBatch]:
        for stacked in self._loader:
            if isinstance(stacked, LoadingError):
                raise stacked.named()
            batch, skipped = stacked
            self.skipped += skipped
            yield batch


class TrafficClipLabels:
    """Images and labels of the traffic view for the clips of another task's samples.

    It implements ``datasets.batch_stream.ClipLabels``. The view has its own augmentation, drawn
    from the clip's augmented images, which are a function of seed, epoch and sample.

    Args:
        samples: the front cameras, with labels, of a data set that holds the clips.
    """

    task = TASK

    def __init__(self, samples: FrontSamples) -> None:
        self.samples = samples

    def prepare(self, clip: Clip, prepared: PreparedClip) -> TrafficSample | None:
        """Return the front view of a clip's current sample; None without a front camera."""
        index = self.samples.dataset.index_of(clip.current.sample_token)
        pixels = prepared.images[..., ::16, ::16].contiguous().numpy().tobytes()
        rng = np.random.default_rng((zlib.crc32(pixels), index))
        found = self.samples.prepare(index, draw_traffic_augmentation(self.samples.config, rng))
        return found if found.images else None

    def stack(self, labels: Sequence[object | None]) -> TrafficBatch | None:
        """Return the batch of the samples that have a front camera; None if there is none."""
        given = [sample for sample in labels if isinstance(sample, TrafficSample)]
        return stack_samples(given) if given else None


@dataclass(frozen=True)
class _Order:
    """Endless sequence of the keys of each batch of one process."""

    factors: NDArray[np.float64]
    seed: int
    start: int
    batch_size: int
    rank: int
    world_size: int

    @property
    def epoch_length(self) -> int:
        """Return the number of samples of an epoch."""
        return len(balanced_order(self.factors, seed=self.seed, epoch=0))

    def __iter__(self) -> Iterator[list[_Key]]:
        length, position = self.epoch_length, self.start
        while True:
            numbers = range(position, position + self.batch_size)
            keys = [divmod(number, length) for number in numbers]
            position += self.batch_size
            yield keys[self.rank :: self.world_size]


class _Augmented(Dataset[tuple[TrafficSample, tuple[SkippedSample, ...]] | LoadingError]):
    """Dataset of augmented samples by (epoch, position)."""

    def __init__(
        self, samples: ViewSamples, factors: NDArray[np.float64], *, recipe: TrainingConfig
    ) -> None:
        self._samples, self._factors, self._recipe = samples, factors, recipe
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(
        self, key: _Key
    ) -> tuple[TrafficSample, tuple[SkippedSample, ...]] | LoadingError:
        epoch, position = key
        rng = np.random.default_rng((self._recipe.seed, epoch, position, 2))
        augmentation = draw_traffic_augmentation(self._samples.config, rng)
        index = int(self._epoch(epoch)[position])
        skipped: list[SkippedSample] = []
        for _ in range(REPLACEMENTS + 1):
            try:
                return self._samples.prepare(index, augmentation), tuple(skipped)
            except (ValueError, OSError) as error:  # a caller can fix these: no traceback
                token = self._samples.token(index)
                if self._recipe.on_bad_sample != "skip" or len(skipped) == REPLACEMENTS:
                    return LoadingError(token, error)
                skipped.append(SkippedSample(token, str(error)))
                index = int(rng.integers(len(self._samples)))
        raise AssertionError  # the loop returns

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            order = balanced_order(self._factors, seed=self._recipe.seed, epoch=epoch)
            self._order = (epoch, order)
        return self._order[1]


def _stack(
    loaded: list[tuple[TrafficSample, tuple[SkippedSample, ...]] | LoadingError],
) -> tuple[TrafficBatch, list[SkippedSample]] | LoadingError:
    errors = [item for item in loaded if isinstance(item, LoadingError)]
    if errors:
        return errors[0]
    good = [item for item in loaded if not isinstance(item, LoadingError)]
    skipped = [skip for _, skips in good for skip in skips]
    return stack_samples([sample for sample, _ in good]), skipped
