"""Training loss of a detector: the losses of its BEV head and of its perspective head."""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.config import LossConfig, PerspectiveConfig
from bevstack.geometry import BEVGrid
from bevstack.losses.criterion import Criterion, Losses
from bevstack.losses.perspective_loss import PerspectiveCriterion
from bevstack.models.bevformer import BEVFormerOutput
from bevstack.models.perspective.camera_views import PerspectiveViews
from bevstack.types import Batch

# Predictions of at least this size, or NaN, are not matched: their sums overflow float32.
MAX_MATCHABLE = 1e30


class DetectorCriterion:
    """L = L_bev + lambda L_perspective (BEVFormer v2, arXiv 2211.10439, section 3.3, equation 5).

    Args:
        config: weights of both losses; ``perspective_weight`` is lambda.
        perspective: the perspective section of the configuration; None for a detector without a
            perspective head.
    """

    def __init__(self, config: LossConfig, perspective: PerspectiveConfig | None = None) -> None:
        self.config = config
        self.bev = Criterion(config, official_parity=config.official_parity)
        self.perspective = None if perspective is None else PerspectiveCriterion(perspective)

    def __call__(self, output: BEVFormerOutput, batch: Batch, grid: BEVGrid) -> Losses:
        """Compute the losses of a batch; names of the perspective terms start with "perspective_".

        Raises:
            ValueError: the batch has no annotations, or a detector with a perspective head gets no
                camera annotations; also the errors of the two criteria.
        """
        if batch.annotations is None:
            raise ValueError("annotations must be given to train on a batch; got none")
        losses = self.bev(output.decoder, batch.annotations, grid)
        if self.perspective is None:
            return losses
        extra = self.perspective_losses(output.perspective, batch)
        terms, spreads = {**losses.terms, **extra.terms}, {**losses.spreads, **extra.spreads}
        return Losses(losses.total + extra.total, terms, spreads)

    def perspective_losses(self, views: PerspectiveViews | None, batch: Batch) -> Losses:
        """Compute lambda L_perspective alone.

        Raises:
            ValueError: the perspective head did not run, or the batch has no camera annotations.
        """
        if self.perspective is None or views is None or batch.camera_annotations is None:
            raise ValueError(
                "camera_annotations must be given to train a perspective head, on a model in "
                "training mode; got none"
            )
        annotations = views.unmirror(batch.camera_annotations)
        losses = self.perspective(views.output, annotations, views.intrinsics)
        weight = self.config.perspective_weight
        terms = {name: weight * value for name, value in losses.terms.items()}
        return Losses(weight * losses.total, terms, losses.spreads)

    @staticmethod
    def can_match(output: BEVFormerOutput) -> Tensor:  # () bool
        """Return True if all predictions are finite and small enough to be matched."""
        predicted = (output.decoder.logits, output.decoder.codes)
        return torch.stack([(x.detach().abs() < MAX_MATCHABLE).all() for x in predicted]).all()
