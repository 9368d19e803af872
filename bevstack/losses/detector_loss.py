"""Training loss of a detector: the losses of its BEV head and of its perspective head."""

from __future__ import annotations

from bevstack.config import LossConfig, PerspectiveConfig
from bevstack.geometry import BEVGrid
from bevstack.losses.criterion import Criterion, Losses
from bevstack.losses.perspective_loss import PerspectiveCriterion
from bevstack.models.bevformer import BEVFormerOutput
from bevstack.types import Batch


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
        if batch.camera_annotations is None or output.perspective is None:
            raise ValueError(
                "camera_annotations must be given to train a perspective head, on a model in "
                "training mode; got none"
            )
        views = output.perspective
        perspective_losses = self.perspective(
            views.output, views.unmirror(batch.camera_annotations), views.intrinsics
        )
        weight = self.config.perspective_weight
        terms = {name: weight * value for name, value in perspective_losses.terms.items()}
        return Losses(losses.total + weight * perspective_losses.total, {**losses.terms, **terms})
