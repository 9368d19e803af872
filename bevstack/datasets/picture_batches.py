"""Endless streams of batches of single pictures, augmented, whatever their labels are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bevstack.config import TrainingConfig
from bevstack.datasets.batch_stream import LoadingError, SkippedSample
from bevstack.datasets.worker_process import initialise_worker

REPLACEMENTS = 10  # pictures tried instead of one that cannot be read
Sample = TypeVar("Sample")
BatchType = TypeVar("BatchType")
_Read = TypeVar("_Read", covariant=True)
_Key = tuple[int, int]  # epoch, and position in it


class PictureSource(Protocol[_Read]):
    """Pictures that can be read and augmented by number."""

    def picture_name(self, index: int) -> str:
        """Return the name of a picture, for messages."""

    def prepare(self, index: int, rng: np.random.Generator) -> _Read:
        """Read a picture and augment it with its labels.

        Raises:
            ValueError: the picture or its labels are damaged.
            OSError: a file cannot be read.
        """


class _Loaded(NamedTuple, Generic[Sample]):
    """An augmented picture, and the pictures that it replaces."""

    sample: Sample
    skipped: tuple[SkippedSample, ...]


class EndlessPictures(Generic[Sample, BatchType]):
    """Endless stream of augmented batches; a function of recipe and position alone.

    An epoch visits each picture once, in random order. ``skipped`` lists the pictures that were
    left out so far.

    Args:
        source: the pictures.
        indices: numbers of the pictures to use.
        stack: makes a batch of samples.
        recipe: batch size, passes, seed and workers.
        start: pictures that the run has used before, over all processes.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        source: PictureSource[Sample],
        indices: Sequence[int],
        *,
        stack: Callable[[Sequence[Sample]], BatchType],
        recipe: TrainingConfig,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        per_pass, rest = divmod(recipe.batch_size, recipe.accumulate)
        if start < 0 or rest or per_pass % world_size:
            raise ValueError(
                f"start must be >= 0 and the {recipe.batch_size} pictures of a step a multiple of "
                f"{recipe.accumulate} passes times {world_size} processes; got start {start}"
            )
        self.epoch_length = len(indices)
        self.skipped: list[SkippedSample] = []
        self._loader = DataLoader(
            _Augmented(source, recipe=recipe, indices=indices),
            batch_sampler=_Order(len(indices), start, per_pass, rank, world_size),
            num_workers=recipe.num_workers,
            collate_fn=_Stack(stack),
            worker_init_fn=initialise_worker,
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[BatchType]:
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


class _Augmented(Dataset["_Loaded[Sample] | LoadingError"], Generic[Sample]):
    """Dataset of augmented pictures by (epoch, position)."""

    def __init__(
        self, source: PictureSource[Sample], *, recipe: TrainingConfig, indices: Sequence[int]
    ) -> None:
        self.source, self.recipe, self.indices = source, recipe, indices

    def __getitem__(self, key: _Key) -> _Loaded[Sample] | LoadingError:
        epoch, position = key
        order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.indices))
        rng = np.random.default_rng((self.recipe.seed, epoch, position, 1))
        index = self.indices[int(order[position])]
        skipped: list[SkippedSample] = []
        for _ in range(REPLACEMENTS + 1):
            try:
                return _Loaded(self.source.prepare(index, rng), tuple(skipped))
            except (ValueError, OSError) as error:  # a caller can fix these: no traceback
                name = self.source.picture_name(index)
                if self.recipe.on_bad_sample != "skip" or len(skipped) == REPLACEMENTS:
                    return LoadingError(name, error)
                skipped.append(SkippedSample(name, str(error)))
                index = self.indices[int(rng.integers(len(self.indices)))]
        raise AssertionError  # the loop returns


@dataclass(frozen=True)
class _Stack(Generic[Sample, BatchType]):
    """Function that stacks loaded pictures, or returns the first error among them."""

    stack: Callable[[Sequence[Sample]], BatchType]

    def __call__(
        self, loaded: list[_Loaded[Sample] | LoadingError]
    ) -> tuple[BatchType, list[SkippedSample]] | LoadingError:
        errors = [item for item in loaded if isinstance(item, LoadingError)]
        if errors:
            return errors[0]
        good = [item for item in loaded if not isinstance(item, LoadingError)]
        skipped = [skip for item in good for skip in item.skipped]
        return self.stack([item.sample for item in good]), skipped
