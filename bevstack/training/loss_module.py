"""A detector and its criterion as one module: a batch in, losses out."""

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

# Predictions of this size, or NaN, are not matched: sums of them overflow float32.
BEYOND_USE = 1e30


class PassLosses(NamedTuple):
    """Losses of one pass; a tuple, in which torch's engines find the tensors."""

    total: Tensor  # ()
    terms: Mapping[str, Tensor]  # detached


class NotFinite(NamedTuple):
    """Instead of losses: some process's predictions cannot be matched."""

    here: bool  # those of this process


class Trainee(nn.Module):
    """What one pass of training computes, in the configured precision.

    Args:
        model: the detector, in training mode.
        config: loss, perspective section and precision.
        processes: those that train together.
    """

    def __init__(self, model: BEVFormerV2, config: Config, *, processes: Processes) -> None:
        super().__init__()
        self.model = model
        self.criterion = DetectorCriterion(config.loss, config.perspective)
        self.precision = config.training.precision
        self.processes = processes

    def forward(self, batch: Batch, perspective_only: bool = False) -> PassLosses | NotFinite:
        """Losses of a batch, unless predictions are not finite, be it in one process.

        With ``perspective_only`` nothing but backbone, neck and perspective head runs, and the
        losses are those of the perspective head.
        """
        if perspective_only:
            return self._perspective_losses(batch)
        with self._in_precision():
            output = self.model(batch)
        said = (output.decoder.logits, output.decoder.codes)
        usable = torch.stack([(x.detach().abs() < BEYOND_USE).all() for x in said]).all()
        if not self.processes.agree(usable):
            return NotFinite(here=not usable)
        losses = self.criterion(output, batch, self.model.grid)
        return PassLosses(losses.total, losses.terms)

    def _perspective_losses(self, batch: Batch) -> PassLosses:
        model, criterion = self.model, self.criterion.perspective
        assert criterion is not None and batch.camera_annotations is not None  # Config checks it
        with self._in_precision():
            images, rig = model.current_frame(batch, None)
            views = model.look_from_cameras(model.extract_pyramid(images), rig, batch)
        assert views is not None  # as there is a perspective head
        losses = criterion(views.output, views.upright(batch.camera_annotations), views.intrinsics)
        weight = self.criterion.config.perspective_weight
        return PassLosses(weight * losses.total, {n: weight * v for n, v in losses.terms.items()})

    def _in_precision(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.processes.device.type, dtype=getattr(torch, self.precision))
