"""Streams of batches made by worker processes, with the labels of further tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from bevstack.datasets.collate import PreparedClip, stack_clips
from bevstack.datasets.worker_process import initialise_worker
from bevstack.types import Batch, Clip
from bevstack.types.batch import TaskLabels


class SkippedSample(NamedTuple):
    """A sample that could not be read and was replaced."""

    sample_token: str
    reason: str


@dataclass(frozen=True)
class LoadingError:
    """Error of a worker process, returned in place of a sample or batch."""

    sample_token: str
    error: Exception

    def named(self) -> Exception:
        """Return the error as a built-in type, with the sample's token in its message."""
        if isinstance(self.error, OSError) and self.error.errno is not None:
            reason = f"{self.error.strerror} (sample {self.sample_token})"
            return OSError(self.error.errno, reason, self.error.filename)
        types = (FileNotFoundError, OSError, ValueError)
        error_type = next(kind for kind in types if isinstance(self.error, kind))
        return error_type(f"{self.error} (sample {self.sample_token})")


class PreparedSample(NamedTuple):
    """A prepared clip, and the samples that it replaces."""

    clip: PreparedClip
    skipped: tuple[SkippedSample, ...]
    labels: tuple[object | None, ...] = ()  # of further tasks


class _StackedBatch(NamedTuple):
    """A batch of a worker process, and the samples skipped for it."""

    batch: Batch
    skipped: tuple[SkippedSample, ...]


class ClipLabels(Protocol):
    """Labels of a further task for clips that are read for detection; made in the workers."""

    @property
    def task(self) -> str:
        """Return the name of the task, under which ``Batch.labels`` holds the labels."""

    def prepare(self, clip: Clip, prepared: PreparedClip) -> object | None:
        """Return the labels of one sample, which can be pickled; None if it has none.

        Args:
            clip: the frames as read, with whole images.
            prepared: the same as model input, augmented.
        """

    def stack(self, labels: Sequence[object | None]) -> TaskLabels | None:
        """Return the labels of a batch, one entry a sample; None if no sample has any."""


class BatchStream:
    """Iterable of batches made by worker processes; it raises the errors of the workers.

    ``skipped`` lists the samples that were left out of the batches so far.

    Args:
        samples: dataset of prepared clips by item.
        order: the items of each batch.
        epoch_length: number of samples of an epoch, over all processes.
        num_workers: number of worker processes.
        pin_memory: allocate images in page-locked memory.
        labels: labels of further tasks, which the items hold.
    """

    def __init__(
        self,
        samples: Dataset[PreparedSample | LoadingError],
        order: Iterable[list[Any]],
        *,
        epoch_length: int,
        num_workers: int,
        pin_memory: bool = False,
        labels: Sequence[ClipLabels] = (),
    ) -> None:
        self.epoch_length = epoch_length
        self.skipped: list[SkippedSample] = []
        # Without a generator, DataLoader would draw from the global one. A resumed run needs that
        # in the state of the interrupted run.
        self._loader = DataLoader(
            samples,
            batch_sampler=order,
            num_workers=num_workers,
            collate_fn=partial(_stack, labels),
            worker_init_fn=initialise_worker,
            generator=torch.Generator(),
            pin_memory=pin_memory,
        )

    def __iter__(self) -> Iterator[Batch]:
        for stacked in self._loader:
            if isinstance(stacked, LoadingError):
                raise stacked.named()
            self.skipped += stacked.skipped
            yield stacked.batch


def _stack(
    sources: Sequence[ClipLabels], loaded: list[PreparedSample | LoadingError]
) -> _StackedBatch | LoadingError:
    errors = [sample for sample in loaded if isinstance(sample, LoadingError)]
    if errors:
        return errors[0]
    prepared = [sample for sample in loaded if isinstance(sample, PreparedSample)]
    skipped = tuple(skipped for sample in prepared for skipped in sample.skipped)
    batch = stack_clips([sample.clip for sample in prepared])
    if sources:
        stacked = {
            source.task: source.stack([sample.labels[place] for sample in prepared])
            for place, source in enumerate(sources)
        }
        present = {task: labels for task, labels in stacked.items() if labels is not None}
        batch = replace(batch, labels=present)
    return _StackedBatch(batch, skipped)
