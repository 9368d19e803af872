"""Losses of the traffic head.

- Objectness of every location: the focal loss of CenterNet (arXiv 1904.07850, equation 1).
- Boxes, of locations and of regions: generalised IoU (arXiv 1902.09630) and distances of the sides.
- Score of a region: cross entropy. Attributes: cross entropy; yellow counts more. The target of a
  colour that the image does not show is an equal share for each, which a filter over time takes as
  no evidence.
- Depth and heading: negative log-likelihood of a Laplace distribution with predicted spread.
- Relevance: cross entropy of every known pair of element and manoeuvre.

Each is averaged over its elements; a batch without elements has only negatives. Letters: R regions,
P locations that learn a box.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config.traffic import TrafficConfig
from bevstack.losses.criterion import Losses
from bevstack.losses.reduction import mean_over_processes
from bevstack.losses.traffic_targets import (
    DenseTargets,
    RegionTargets,
    dense_targets,
    region_targets,
)
from bevstack.models.traffic.model import TrafficOutput
from bevstack.types.traffic_batch import HIDDEN, SIGN, TrafficBatch, TrafficTargets
from bevstack.vocabulary import LIGHT_COLORS

FOCAL_POWER, NEGATIVE_POWER = 2, 4  # alpha and beta of CenterNet
_L1_WEIGHT = 0.5
_SCORE_WEIGHT = 2.0


def traffic_losses(output: TrafficOutput, batch: TrafficBatch, config: TrafficConfig) -> Losses:
    """Compute the losses of a batch in float32; 0 with a gradient for a batch without images."""
    targets = batch.targets
    shape = (int(output.dense.logits.shape[-2]), int(output.dense.logits.shape[-1]))
    dense = dense_targets(targets, batch.views, batch.labelled, shape)
    region = region_targets(output.regions, targets, batch.labelled)
    weights = {
        "objectness": 1.0,
        "box": config.box_weight,
        "score": _SCORE_WEIGHT,
        "refined_box": config.box_weight,
        "color": config.factor_weight,
        "shape": config.factor_weight,
        "pedestrian": config.factor_weight,
        "meaning": config.factor_weight,
        "speed_limit": config.factor_weight,
        "depth": config.place_weight,
        "aspect": config.place_weight,
        "relevance": config.relevance_weight,
    }
    terms = {
        **_dense_terms(output, dense, targets),
        **_region_terms(output, region, targets, config),
    }
    weighted = {name: weights[name] * term for name, term in terms.items()}
    total = torch.stack(list(weighted.values())).sum()
    return Losses(total, {name: term.detach() for name, term in weighted.items()})


def center_focal_loss(
    logits: Tensor,  # (...)
    heat: Tensor,  # (...) 1 at centres
    counts: Tensor,  # (...) bool
) -> Tensor:  # ()
    """Sum the focal loss of CenterNet over the locations that count."""
    center = heat >= 1.0
    probability = logits.sigmoid()
    positive = (1 - probability).pow(FOCAL_POWER) * functional.softplus(-logits)
    negative = (1 - heat).pow(NEGATIVE_POWER) * probability.pow(FOCAL_POWER)
    negative = negative * functional.softplus(logits)
    return (torch.where(center, positive, negative) * counts).sum()


def box_loss(
    predicted_px: Tensor,  # (P, 4)
    wanted_px: Tensor,  # (P, 4)
) -> Tensor:  # (P,)
    """Return 1 - generalised IoU, plus the distances of the sides relative to the box."""
    low = torch.maximum(predicted_px[:, :2], wanted_px[:, :2])
    high = torch.minimum(predicted_px[:, 2:], wanted_px[:, 2:])
    intersection = (high - low).clamp(min=0).prod(1)
    sides = [(box[:, 2:] - box[:, :2]).clamp(min=1e-3) for box in (predicted_px, wanted_px)]
    union = sides[0].prod(1) + sides[1].prod(1) - intersection
    hull = torch.maximum(predicted_px[:, 2:], wanted_px[:, 2:]) - torch.minimum(
        predicted_px[:, :2], wanted_px[:, :2]
    )
    area = hull.prod(1)
    iou = intersection / union - (area - union) / area
    distance = (predicted_px - wanted_px).abs() / sides[1].repeat(1, 2)
    return (
        1
        - iou
        + _L1_WEIGHT
        * functional.smooth_l1_loss(
            distance, torch.zeros_like(distance), reduction="none", beta=0.2
        ).mean(1)
    )


def color_loss(
    logits: Tensor,  # (R, len(LIGHT_COLORS))
    labels: Tensor,  # (R,) int64; UNKNOWN is not learned, HIDDEN has equal shares as its target
    weights: Tensor,  # (len(LIGHT_COLORS),)
) -> Tensor:  # ()
    """Return the weighted mean of the cross entropy; a hidden colour has the weight 1."""
    known, hidden = labels >= 0, labels == HIDDEN
    entropy = functional.cross_entropy(
        logits[known], labels[known], weight=weights, reduction="none"
    ).sum()
    entropy = entropy - logits[hidden].log_softmax(1).mean(1).sum()
    return entropy / _count(weights[labels[known]].sum() + hidden.sum())


def laplace_loss(
    error: Tensor,  # (R,)
    log_spread: Tensor,  # (R,)
) -> Tensor:  # (R,)
    """Return the negative log-likelihood of an error, without its constant."""
    return error.abs() * (-log_spread).exp() + log_spread


def _dense_terms(
    output: TrafficOutput, dense: DenseTargets, targets: TrafficTargets
) -> dict[str, Tensor]:
    centers = ((dense.heat >= 1) & dense.counts).sum().float()
    focal = center_focal_loss(output.dense.logits, dense.heat, dense.counts)
    found = output.dense.boxes_px[dense.location]
    boxes = box_loss(found, targets.boxes_px[dense.element]) * dense.weight
    return {"objectness": focal / _count(centers), "box": boxes.sum() / _count(dense.weight.sum())}


def _region_terms(
    output: TrafficOutput, region: RegionTargets, targets: TrafficTargets, config: TrafficConfig
) -> dict[str, Tensor]:
    found = region.element >= 0
    rows = found.nonzero()[:, 0]
    wanted = targets[region.element[rows]]
    prediction, place = output.region, output.place
    score = functional.binary_cross_entropy_with_logits(
        prediction.score, found.float(), reduction="none"
    )
    scored = region.counts.float()
    boxes = box_loss(prediction.boxes_px[rows], wanted.boxes_px)
    color_weights = boxes.new_tensor(
        [config.yellow_weight if "yellow" in name else 1.0 for name in LIGHT_COLORS]
    )
    sign = wanted.kind == SIGN
    # An unknown label gives no gradient, but NaN would: the gradient of a masked NaN is NaN.
    log_depth = wanted.depth_m.nan_to_num(1.0).clamp(min=0.1).log()
    depth = laplace_loss(place.log_depth[rows] - log_depth, prediction.depth[rows, 1])
    turn = wanted.aspect_rad.nan_to_num(0.0)
    aspect = laplace_loss(prediction.aspect[rows, 0] - turn, prediction.aspect[rows, 1])
    return {
        "score": (score * scored).sum() / _count(scored.sum()),
        "refined_box": boxes.sum() / _count(rows.new_tensor(len(rows)).float()),
        "color": color_loss(
            prediction.color[rows], torch.where(sign, -1, wanted.color), color_weights
        ),
        "shape": _class_loss(prediction.shape[rows], torch.where(sign, -1, wanted.shape)),
        "pedestrian": _binary_loss(
            prediction.pedestrian[rows], torch.where(sign, -1, wanted.pedestrian)
        ),
        "meaning": _class_loss(prediction.meaning[rows], torch.where(sign, wanted.meaning, -1)),
        **_number_terms(prediction.speed_limit[rows], wanted.speed_limit),
        "depth": _known_mean(depth, wanted.depth_m.isfinite()),
        "aspect": _known_mean(aspect, wanted.aspect_rad.isfinite()),
        "relevance": _binary_loss(output.relevance[rows], wanted.relevance),
    }


def _number_terms(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the loss of the numbers of speed limits; none if the head reads no numbers."""
    return {"speed_limit": _class_loss(logits, labels)} if logits.shape[1] else {}


def _class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of the cross entropy over known labels."""
    known = labels >= 0
    entropy = functional.cross_entropy(logits[known], labels[known], reduction="none")
    return entropy.sum() / _count(known.sum().float())


def _binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of the cross entropy over known labels."""
    known = labels >= 0
    entropy = functional.binary_cross_entropy_with_logits(
        logits[known], labels[known].to(logits.dtype), reduction="none"
    )
    return entropy.sum() / _count(known.sum().float())


def _known_mean(loss: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, loss, 0.0).sum() / _count(known.sum().float())


def _count(count: Tensor) -> Tensor:
    """Return a normaliser: the mean over the processes, at least 1."""
    return mean_over_processes(count.detach().float()).clamp(min=1.0)
