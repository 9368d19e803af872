"""One-to-one matching of queries and true boxes (DETR, arXiv 2005.12872, section 3.1).

Letters: R decoder layers, B batch, Q queries, A true boxes (most of any sample), K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bevstack.config import LossConfig
from bevstack.losses.focal import focal_cost
from bevstack.losses.targets import Targets
from bevstack.models.box_code import DecoderOutput

MATCHED_CODES = 8  # the velocity does not enter the matching


@dataclass(frozen=True)
class Matches:
    """Matched (layer, sample, query, true box) rows of all layers and samples."""

    layer: Tensor  # (M,) int64
    sample: Tensor  # (M,) int64
    query: Tensor  # (M,) int64
    target: Tensor  # (M,) int64, index within the sample's true boxes


def matching_cost(
    output: DecoderOutput,
    targets: Targets,
    config: LossConfig,
) -> Tensor:  # (R, B, Q, A) float32
    """Weighted focal cost of the true class plus smooth-L1 distance of the first eight codes."""
    queries = output.logits.shape[2]
    logits = output.logits.float()
    labels = targets.labels[None, :, None].expand(logits.shape[0], -1, queries, -1)
    chosen = focal_cost(logits, alpha=config.focal_alpha, gamma=config.focal_gamma)
    class_cost = chosen.gather(-1, labels)  # (R, B, Q, A)
    predicted = output.codes.float()[..., :MATCHED_CODES]
    true = targets.codes[..., :MATCHED_CODES]
    distance = (predicted[..., :, None, :] - true[None, :, None]).abs()  # (R, B, Q, A, 8)
    box_cost = torch.where(distance < 1, 0.5 * distance.square(), distance - 0.5).sum(-1)
    return config.class_weight * class_cost + config.box_weight * box_cost


@torch.no_grad()
def match(output: DecoderOutput, targets: Targets, config: LossConfig) -> Matches:
    """The cheapest one-to-one assignment of each layer and sample, by the Hungarian method.

    All costs are computed at once and copied to the host once; padding columns take no part.

    Raises:
        ValueError: a cost is not finite; names decoder layer and sample.
    """
    cost = matching_cost(output, targets, config).cpu().numpy()
    rows = [
        _assign(cost[layer, sample, :, :count], layer, sample)
        for layer in range(cost.shape[0])
        for sample, count in enumerate(targets.counts)
    ]
    matched = np.concatenate([np.zeros((4, 0), np.int64), *rows], axis=1)
    return Matches(*torch.from_numpy(matched).to(output.codes.device).unbind(0))


def _assign(cost: np.ndarray, layer: int, sample: int) -> np.ndarray:  # (4, M)
    if not np.isfinite(cost).all():
        query, target = np.argwhere(~np.isfinite(cost))[0]
        raise ValueError(
            f"matching cost of decoder layer {layer}, sample {sample} must be finite; got "
            f"{cost[query, target]} for query {query} and true box {target}: the predictions "
            "diverged (lower the learning rate) or the box's centre, size or yaw is not finite"
        )
    query, target = linear_sum_assignment(cost)
    return np.stack((np.full_like(query, layer), np.full_like(query, sample), query, target))
