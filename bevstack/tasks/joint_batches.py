"""Batches of several tasks that train together, and the processes that share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bevstack.tasks.task import Batches, ProcessGroup


@dataclass(frozen=True)
class JointBatch:
    """Batches of the tasks that bring samples; None where this process has none in this pass."""

    parts: Mapping[str, Any]  # by task
    scales: Mapping[str, float] = field(default_factory=dict)  # of losses: processes over owners

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """Return the names of all samples."""
        return tuple(t for part in self.parts.values() if part for t in part.sample_tokens)

    @property
    def num_images(self) -> int:
        """Return the number of images of all tasks."""
        return sum(part.num_images for part in self.parts.values() if part)

    def to(self, device: torch.device | str) -> JointBatch:
        """Return the batch on a device."""
        return replace(self, parts={n: p and p.to(device) for n, p in self.parts.items()})


class JointBatches:
    """Streams of several tasks, one batch of each a pass.

    Args:
        streams: by task; None where this process has no samples of it.
        scales: factors of the losses by task.
    """

    def __init__(self, streams: Mapping[str, Batches | None], scales: Mapping[str, float]) -> None:
        self.streams = streams
        self.scales = scales

    @property
    def epoch_length(self) -> int:
        """Return the longest epoch of the tasks, in samples."""
        return max(stream.epoch_length for stream in self.streams.values() if stream)

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """Return the skipped samples of all tasks."""
        return [s for stream in self.streams.values() if stream for s in stream.skipped]

    def __iter__(self) -> Iterator[JointBatch]:
        """Yield one batch of every task."""
        running = {name: stream and iter(stream) for name, stream in self.streams.items()}
        while True:
            parts = {name: batches and next(batches) for name, batches in running.items()}
            yield JointBatch(parts, self.scales)


@dataclass(frozen=True)
class FirstMembers:
    """The first processes of a group, which share samples that are fewer than the processes."""

    rank: int
    world_size: int
    device: torch.device

    def barrier(self) -> None:
        """Refuse, because the remaining processes would not come."""
        raise RuntimeError("the processes of one task cannot wait for each other")


def first_members(per_pass: int, group: ProcessGroup) -> ProcessGroup:
    """Return the processes that share the samples of a task in one pass: all, or the first ones."""
    if per_pass >= group.world_size:
        return group  # the loader refuses what cannot be shared evenly
    return FirstMembers(group.rank, per_pass, group.device)
