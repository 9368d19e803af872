"""Losses of segmentation: cross entropy of each pixel, of the head and of the auxiliary head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.losses.criterion import Losses
from bevstack.models.segmentation.heads import resize_map
from bevstack.models.segmentation.model import SegmentationOutput
from bevstack.vocabulary import IGNORED_LABEL


class PixelLoss(NamedTuple):
    """Loss of one head."""

    loss: Tensor  # ()
    accuracy: Tensor  # () percent of the labelled pixels whose class is right; no loss


def pixel_loss(
    logits: Tensor,  # (B, K, H', W')
    labels: Tensor,  # (B, H, W) int64; 255: no label
) -> PixelLoss:
    """Return the cross entropy of the logits, resized to the labels, as a mean over all pixels.

    Pixels without a label add nothing and count in the mean, as in the released training.
    """
    height, width = labels.shape[-2:]
    resized = resize_map(logits, (int(height), int(width)))
    loss = functional.cross_entropy(resized, labels, ignore_index=IGNORED_LABEL, reduction="none")
    labelled = labels != IGNORED_LABEL
    right = (resized.argmax(1) == labels) & labelled
    accuracy = 100 * right.sum() / labelled.sum().clamp(min=1)
    return PixelLoss(loss.mean(), accuracy.detach())


def segmentation_losses(
    output: SegmentationOutput,
    labels: Tensor,  # (B, H, W) int64; 255: no label
    *,
    auxiliary_weight: float,
) -> Losses:
    """Return the sum of the losses and its terms, "class" and "auxiliary"."""
    head = pixel_loss(output.logits, labels)
    terms = {"class": head.loss}
    if output.auxiliary is not None:
        terms["auxiliary"] = auxiliary_weight * pixel_loss(output.auxiliary, labels).loss
    total = torch.stack(list(terms.values())).sum()
    return Losses(total, {name: term.detach() for name, term in terms.items()})
