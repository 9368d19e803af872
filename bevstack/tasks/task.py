"""The interface of a task, through which training builds, trains, scores and saves a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bevstack.config import TrainingConfig
from bevstack.losses.criterion import Losses


class NotFinite(NamedTuple):
    """Result of a pass in which predictions of some process are not finite."""

    here: bool  # True if predictions of this process are not finite


@dataclass(frozen=True)
class Score:
    """Result of an evaluation on held-out samples."""

    figures: Mapping[str, float]  # one line of the log of evaluations
    details: Any = None  # the task's own metrics


class Sharding(NamedTuple):
    """Modules that FSDP2 may gather one at a time."""

    parts: tuple[type[nn.Module], ...]  # they return plain tensors
    run_equally_often: bool  # in all processes; gathering one at a time needs that


class ProcessGroup(Protocol):
    """The processes that train together; ``training.processes.Processes`` implements it."""

    @property
    def rank(self) -> int:
        """Return the number of this process."""

    @property
    def world_size(self) -> int:
        """Return the number of processes."""

    @property
    def device(self) -> torch.device:
        """Return this process's device."""

    def barrier(self) -> None:
        """Wait for the other processes."""


class TaskBatch(Protocol):
    """Samples of one pass of one process, with their labels."""

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """Return the names of the samples, for messages."""

    @property
    def num_images(self) -> int:
        """Return the number of images, for the log."""

    def to(self, device: torch.device | str) -> TaskBatch:
        """Return the batch on a device."""


class Batches(Protocol):
    """An endless stream of training batches."""

    @property
    def epoch_length(self) -> int:
        """Return the number of samples of an epoch, over all processes."""

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """Return the samples that could not be read so far, each with the reason."""

    def __iter__(self) -> Iterator[Any]:
        """Yield batches (``TaskBatch``)."""


class Task(Protocol):
    """Interface of one task for training.

    A model has the attribute ``backbone``. Several tasks share one: ``tasks.joint``.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Return the tasks that a model of this task offers."""

    @property
    def recipe(self) -> TrainingConfig:
        """Return steps, batch size, optimiser and schedule."""

    @property
    def headline(self) -> str:
        """Return the name of the figure that ranks models; higher is better."""

    @property
    def has_held_out(self) -> bool:
        """Return True if there are held-out samples to evaluate on."""

    @property
    def view(self) -> str:
        """Return the name of the images that the task sees; equal names mean equal images."""

    @property
    def all_parts_run(self) -> bool:
        """Return True if every pass after the first stage gives every parameter a gradient."""

    @property
    def sharding(self) -> Sharding:
        """Return the modules that may be sharded one at a time."""

    def to_json(self) -> str:
        """Return everything that a checkpoint must agree on, as JSON with "training" in it."""

    def differences(self, stored: str, free: Sequence[str]) -> list[str]:
        """Return how another ``to_json`` differs, as "path: given != stored".

        Fields of the training section in ``free`` may differ.

        Raises:
            ValueError: the text cannot be read.
        """

    def build_model(self, backbone: nn.Module | None = None) -> nn.Module:
        """Build a model in training mode, with random weights from torch's generator.

        Args:
            backbone: another task's backbone, to share it; None builds one.
        """

    def read_weights(self, path: Path, *, verify: bool = True) -> Mapping[str, Tensor]:
        """Read initial weights of this model from a file that ``write_model`` wrote.

        Args:
            path: the file.
            verify: False skips the file's checksum.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or holds another model.
        """

    def write_model(
        self, path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> None:
        """Write a model file, completely or not at all.

        Raises:
            OSError: the file cannot be written; an older one stays intact.
        """

    def make_batches(
        self, recipe: TrainingConfig, group: ProcessGroup, *, start: int, labels: Sequence[Any] = ()
    ) -> Batches:
        """Build the stream of training batches, a function of the recipe and the position alone.

        Args:
            recipe: batch size, passes, seed and workers, which several tasks share.
            group: this process among those that train together.
            start: samples that the run has used before, over all processes.
            labels: labels of further tasks for the same samples (``datasets.loader.ClipLabels``).

        Raises:
            ValueError: there are no samples, or the processes cannot share a batch evenly.
        """

    def images(self, model: nn.Module, batch: Any) -> Tensor:  # (M, 3, H, W)
        """Return the images that the backbone sees with gradient, all of one size."""

    def forward(
        self, model: nn.Module, batch: Any, maps: Sequence[Tensor] | None, *, first_stage: bool
    ) -> Any:
        """Run the model on a batch, in the precision that is active.

        Args:
            model: the result of ``build_model``.
            batch: one of ``make_batches``.
            maps: the backbone's output for ``images``, if another task needed it too.
            first_stage: True during the first ``recipe.perspective_steps`` steps.
        """

    def are_finite(self, outputs: Any) -> Tensor | None:  # () bool
        """Return True if the outputs can be scored; None if that needs no check."""

    def losses(self, outputs: Any, batch: Any) -> Losses:
        """Compute the losses of outputs of ``forward``, in float32."""

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, group: ProcessGroup) -> Score:
        """Score weights on the held-out samples; every process must call it.

        Args:
            weights: tensors that are not sharded.
            folder: where processes may exchange files.
            group: this process among those that train together.

        Raises:
            FileNotFoundError: an image is missing; the message names the sample.
            ValueError: an image is damaged, or there is nothing to score.
        """
