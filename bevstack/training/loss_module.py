"""A model and its task's losses as one module: from a batch to its losses."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from bevstack.losses.criterion import Losses
from bevstack.tasks.task import NotFinite, Task, TaskBatch
from bevstack.training.processes import Processes


class LossModule(nn.Module):
    """Computation of one training pass, in the configured precision.

    Args:
        model: the model of the task, in training mode.
        task: runs the model and computes the losses.
        processes: the processes that train together.
    """

    def __init__(self, model: nn.Module, task: Task, *, processes: Processes) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.precision = task.recipe.precision
        self.processes = processes

    def forward(self, batch: TaskBatch, first_stage: bool = False) -> Losses | NotFinite:
        """Compute the losses of a batch.

        Returns ``NotFinite`` in every process if predictions of one process are not finite.
        """
        with self._in_precision():
            outputs = self.task.forward(self.model, batch, None, first_stage=first_stage)
        finite = self.task.are_finite(outputs)
        if finite is not None and not self.processes.all_true(finite):
            return NotFinite(here=not finite)
        return self.task.losses(outputs, batch)

    def _in_precision(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.processes.device.type, dtype=getattr(torch, self.precision))
