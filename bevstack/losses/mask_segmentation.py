"""Losses of Mask2Former (arXiv 2112.01527): matched masks at sampled points, and classes.

Letters: B batch, Q queries, K classes, T masks of a picture, M matched masks of all pictures, P
points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from bevstack.config.mask_segmentation import MaskHeadConfig
from bevstack.losses.criterion import Losses
from bevstack.losses.reduction import mean_over_processes
from bevstack.models.segmentation.mask_decoder import MaskPrediction
from bevstack.shapes import expect_shape
from bevstack.vocabulary import IGNORED_LABEL

DICE_EPS = 1.0  # added to both sides of the fraction, as released
# Gives numbers of a shape in [0, 1).
Uniform = Callable[[tuple[int, ...]], Tensor]


class TrueMasks(NamedTuple):
    """Classes of one picture, each with its mask."""

    labels: Tensor  # (T,) int64, ascending
    masks: Tensor  # (T, H, W) float, 0 or 1


class PredictionLosses(NamedTuple):
    """Losses of one prediction, with their weights."""

    classes: Tensor  # ()
    masks: Tensor  # () binary cross entropy
    dice: Tensor  # ()


def seeded_uniform(seeds: Sequence[int], device: torch.device) -> Uniform:
    """Return random numbers that follow from the seeds of a batch, on any device the same."""
    generator = torch.Generator().manual_seed(hash(tuple(seeds)) % 2**63)
    return lambda shape: torch.rand(shape, generator=generator).to(device)


def split_labels(
    labels: Tensor,  # (B, H, W) int64; 255: no label
) -> list[TrueMasks]:
    """Return the classes of each picture; pixels without a label are in no mask."""
    pictures = []
    for own in labels:
        present = own.unique()
        present = present[present != IGNORED_LABEL]
        pictures.append(TrueMasks(present, (own == present[:, None, None]).float()))
    return pictures


def mask_segmentation_losses(
    predictions: Sequence[MaskPrediction],
    labels: Tensor,  # (B, H, W) int64; 255: no label
    config: MaskHeadConfig,
    uniform: Uniform,
) -> Losses:
    """Return the sum of all losses and its terms.

    Terms are "class", "mask" and "dice" with "_0" of the learned queries, "_1" after the first
    layer, and further ones. Each prediction is matched and sampled by itself.

    Raises:
        ValueError: labels are of another number of pictures, or a label has no class.
    """
    expect_shape("labels", labels, (len(predictions[0].logits), "H", "W"))
    truth = split_labels(labels)
    terms: dict[str, Tensor] = {}
    for index, prediction in enumerate(predictions):
        losses = prediction_losses(prediction, truth, config, uniform)
        for kind, value in zip(("class", "mask", "dice"), losses, strict=True):
            terms[f"{kind}_{index}"] = value
    total = torch.stack(list(terms.values())).sum()
    return Losses(total, {name: value.detach() for name, value in terms.items()})


def prediction_losses(
    prediction: MaskPrediction,
    truth: Sequence[TrueMasks],  # B
    config: MaskHeadConfig,
    uniform: Uniform,
) -> PredictionLosses:
    """Return the losses of one prediction: points for the matching are drawn first.

    Raises:
        ValueError: a label is not below the number of classes.
    """
    _check_labels(truth, prediction.logits.shape[-1] - 1)
    logits, masks = prediction.logits.float(), prediction.masks.float()
    matches = match_masks(MaskPrediction(logits, masks), truth, config, uniform)
    classes = class_loss(logits, matches, truth, empty_weight=config.empty_weight)
    found = torch.cat([own[rows] for own, (rows, _) in zip(masks, matches, strict=True)])
    matched = mean_over_processes(masks.new_tensor(float(len(found)))).clamp(min=1)
    wanted = [own.masks[rows] for own, (_, rows) in zip(truth, matches, strict=True)]
    points = loss_points(found, config, uniform)
    predicted = sample_masks(found[:, None], points)[:, 0]  # (M, P)
    targets = sample_masks(torch.cat(wanted)[:, None], points)[:, 0]
    entropy = functional.binary_cross_entropy_with_logits(predicted, targets, reduction="sum")
    return PredictionLosses(
        config.class_weight * classes,
        config.mask_weight * entropy / (matched * config.sampled_points),
        config.dice_weight * dice_distance(predicted.sigmoid(), targets).sum() / matched,
    )


@torch.no_grad()
def match_masks(
    prediction: MaskPrediction,
    truth: Sequence[TrueMasks],  # B
    config: MaskHeadConfig,
    uniform: Uniform,
) -> list[tuple[Tensor, Tensor]]:  # B x queries, masks, (T,) int64 each; queries ascend
    """Return the best assignment of masks to queries of each picture, by points that all share."""
    matches = []
    for logits, masks, own in zip(*prediction, truth, strict=True):
        points = uniform((1, config.sampled_points, 2))
        predicted = sample_masks(masks[None], points)[0]  # (Q, P)
        targets = sample_masks(own.masks[None], points)[0]  # (T, P)
        cost = (
            -config.class_weight * logits.softmax(-1)[:, own.labels]
            + config.mask_weight * pairwise_entropy(predicted, targets)
            + config.dice_weight * pairwise_dice(predicted.sigmoid(), targets)
        )
        queries, rows = linear_sum_assignment(cost.cpu().numpy())
        device = logits.device
        matches.append((torch.as_tensor(queries).to(device), torch.as_tensor(rows).to(device)))
    return matches


def class_loss(
    logits: Tensor,  # (B, Q, K + 1)
    matches: Sequence[tuple[Tensor, Tensor]],  # B
    truth: Sequence[TrueMasks],  # B
    *,
    empty_weight: float,
) -> Tensor:  # ()
    """Return the weighted mean of the cross entropy; queries without a mask are "no object"."""
    empty = logits.shape[-1] - 1
    targets = torch.full(logits.shape[:2], empty, dtype=torch.int64, device=logits.device)
    for own_targets, (queries, rows), own in zip(targets, matches, truth, strict=True):
        own_targets[queries] = own.labels[rows]
    weights = logits.new_ones(empty + 1)
    weights[empty] = empty_weight
    entropy = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    own_weights = weights[targets]
    return (entropy * own_weights).sum() / own_weights.sum().clamp(min=1e-6)


@torch.no_grad()
def loss_points(
    masks: Tensor,  # (M, H, W) logits
    config: MaskHeadConfig,
    uniform: Uniform,
) -> Tensor:  # (M, P, 2) x, y, shares of the picture
    """Return points of each mask: the least certain ones of many candidates, then random ones.

    PointRend (arXiv 1912.08193, section 3.1).
    """
    count, points = len(masks), config.sampled_points
    candidates = uniform((count, int(points * config.oversampling), 2))
    uncertain = int(config.uncertain_share * points)
    certainty = sample_masks(masks[:, None], candidates)[:, 0].abs()
    best = certainty.topk(uncertain, dim=1, largest=False).indices[..., None]
    chosen = candidates.gather(1, best.expand(-1, -1, 2))
    return torch.cat((chosen, uniform((count, points - uncertain, 2))), 1)


def sample_masks(
    masks: Tensor,  # (N, C, H, W)
    points: Tensor,  # (N, P, 2) x, y, shares of the picture
) -> Tensor:  # (N, C, P)
    """Return bilinear samples; beyond the centres of the outer pixels they fade to zero."""
    if not masks.numel():  # grid_sample refuses it
        return masks.sum((2, 3))[..., None].expand(-1, -1, points.shape[1])
    grid = 2 * points[:, :, None] - 1
    return functional.grid_sample(masks, grid.to(masks.dtype), align_corners=False)[..., 0]


def pairwise_entropy(
    predicted: Tensor,  # (Q, P) logits
    targets: Tensor,  # (T, P)
) -> Tensor:  # (Q, T)
    """Return the mean binary cross entropy over the points of each pair."""
    positive, negative = functional.softplus(-predicted), functional.softplus(predicted)
    return (positive @ targets.T + negative @ (1 - targets).T) / predicted.shape[1]


def pairwise_dice(
    probabilities: Tensor,  # (Q, P)
    targets: Tensor,  # (T, P)
) -> Tensor:  # (Q, T)
    """Return ``dice_distance`` of each pair."""
    overlap = 2 * (probabilities @ targets.T) + DICE_EPS
    return 1 - overlap / (probabilities.sum(-1)[:, None] + targets.sum(-1) + DICE_EPS)


def dice_distance(
    probabilities: Tensor,  # (M, P)
    targets: Tensor,  # (M, P)
) -> Tensor:  # (M,)
    """Return 1 minus the dice coefficient, with the sums of values in the denominator."""
    overlap = 2 * (probabilities * targets).sum(-1) + DICE_EPS
    return 1 - overlap / (probabilities.sum(-1) + targets.sum(-1) + DICE_EPS)


def _check_labels(truth: Sequence[TrueMasks], num_classes: int) -> None:
    for own in truth:
        if len(own.labels) and not 0 <= int(own.labels[0]) <= int(own.labels[-1]) < num_classes:
            raise ValueError(
                f"labels must lie in 0..{num_classes - 1}, or be {IGNORED_LABEL}; got "
                f"{int(own.labels[0])}..{int(own.labels[-1])}"
            )
