"""Detector and criterion as one module: from a batch to its losses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bevstack.config import Config
from bevstack.losses.detector_loss import DetectorCriterion
from bevstack.models.bevformer import BEVFormerV2
from bevstack.training.processes import Processes
from bevstack.types import Batch

# Predictions of at least this size, or NaN, are not matched: their sums overflow float32.
MAX_MATCHABLE = 1e30


class PassLosses(NamedTuple):
    """Losses of one pass; a tuple, as DDP and FSDP2 find the tensors in tuples."""

    total: Tensor  # ()
    terms: Mapping[str, Tensor]  # detached


class NotFinite(NamedTuple):
    """Result of a pass in which predictions of some process are not finite."""

    here: bool  # True if predictions of this process are not finite


class LossModule(nn.Module):
    """Computation of one training pass: the model and its losses, in the configured precision.

    Args:
        model: the detector, in training mode.
        config: loss section, perspective section and precision.
        processes: the processes that train together.
    """

    def __init__(self, model: BEVFormerV2, config: Config, *, processes: Processes) -> None:
        super().__init__()
        self.model = model
        self.criterion = DetectorCriterion(config.loss, config.perspective)
        self.precision = config.training.precision
        self.processes = processes

    def forward(self, batch: Batch, perspective_only: bool = False) -> PassLosses | NotFinite:
        """Compute the losses of a batch.

        Returns ``NotFinite`` in every process if predictions of one process are not finite. With
        ``perspective_only``, only backbone, neck and perspective head run, and the losses are those
        of the perspective head.
        """
        if perspective_only:
            return self._perspective_losses(batch)
        with self._in_precision():
            output = self.model(batch)
        predicted = (output.decoder.logits, output.decoder.codes)
        usable = torch.stack([(x.detach().abs() < MAX_MATCHABLE).all() for x in predicted]).all()
        if not self.processes.all_true(usable):
            return NotFinite(here=not usable)
        losses = self.criterion(output, batch, self.model.grid)
        return PassLosses(losses.total, losses.terms)

    def _perspective_losses(self, batch: Batch) -> PassLosses:
        model, criterion = self.model, self.criterion.perspective
        assert criterion is not None and batch.camera_annotations is not None  # Config checks it
        with self._in_precision():
            images, rig = model.current_frame(batch, None)
            views = model.run_perspective_head(model.extract_pyramid(images), rig, batch)
        assert views is not None  # the model has a perspective head
        losses = criterion(views.output, views.unmirror(batch.camera_annotations), views.intrinsics)
        weight = self.criterion.config.perspective_weight
        return PassLosses(weight * losses.total, {n: weight * v for n, v in losses.terms.items()})

    def _in_precision(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.processes.device.type, dtype=getattr(torch, self.precision))
