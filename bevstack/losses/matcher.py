"""One-to-one matching of queries and true boxes (DETR, arXiv 2005.12872, section 3.1).

Letters: R decoder layers, B batch, G groups of queries, Q queries of all groups, A true boxes (most
of any sample), K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from bevstack.config import LossConfig
from bevstack.losses.focal import focal_cost
from bevstack.losses.targets import Targets
from bevstack.models.detection3d.box_code import DecoderOutput

MATCHED_CODES = 8  # the velocity does not enter the matching


@dataclass(frozen=True)
class Matches:
    """Matched (layer, sample, query, true box) rows of all layers, samples and groups."""

    layer: Tensor  # (M,) int64
    sample: Tensor  # (M,) int64
    query: Tensor  # (M,) int64
    target: Tensor  # (M,) int64, index within the sample's true boxes that train


@dataclass(frozen=True)
class _Costs:
    """What assignment needs, on the host."""

    cost: np.ndarray  # (R, B, A, Q) float32
    labels: np.ndarray  # (B, A)
    counts: np.ndarray  # (B,) true boxes that train
    active: np.ndarray  # (B, Q) bool
    num_classes: int


@torch.no_grad()
def matching_cost(
    output: DecoderOutput,
    targets: Targets,
    config: LossConfig,
) -> Tensor:  # (R, B, A, Q) float32
    """Weighted focal cost of the true class plus smooth-L1 distance of the first eight codes.

    Layer by layer and code by code into one result: memory is that of the result.
    """
    cost = torch.empty(_cost_shape(output, targets), device=output.logits.device)
    _write_cost(cost, output, targets, config)
    return cost


@torch.no_grad()
def match(output: DecoderOutput, targets: Targets, config: LossConfig) -> Matches:
    """The cheapest one-to-one assignment of each layer, sample and group, by the Hungarian method.

    All costs are computed at once and copied to the host once, together with all else that is
    looked at there. Inactive queries and true boxes that do not train take no part.

    Raises:
        ValueError: a label outside the classes, which names the sample, or a cost that is not
            finite, which names decoder layer and sample.
    """
    costs = _copy_to_host(output, targets, config)
    _check_labels(costs)
    groups = output.num_groups
    queries = output.codes.shape[2] // groups
    rows = [np.zeros((4, 0), np.int64)]
    for sample, count in enumerate(costs.counts):
        for start in range(0, groups * queries, queries) if count else ():
            of_group = slice(start, start + queries)
            taking_part = costs.active[sample, of_group]
            everybody = bool(taking_part.all())
            for layer, cost in enumerate(costs.cost[:, sample, :count, of_group]):
                part = cost if everybody else cost[:, taking_part]
                _check_finite(part, layer, sample)
                target, query = linear_sum_assignment(part)
                query = query if everybody else np.flatnonzero(taking_part)[query]
                where = (np.full_like(query, layer), np.full_like(query, sample))
                rows.append(np.stack((*where, start + query, target)))
    found = np.concatenate(rows, axis=1)
    found = found[:, np.lexsort(found[2::-1])]  # by layer, sample, query
    return Matches(*torch.from_numpy(found).to(output.codes.device).unbind(0))


def _cost_shape(output: DecoderOutput, targets: Targets) -> tuple[int, int, int, int]:
    layers, batch, queries, _ = output.logits.shape
    return layers, batch, targets.labels.shape[1], queries


def _write_cost(
    cost: Tensor,  # (R, B, A, Q) contiguous, written to
    output: DecoderOutput,
    targets: Targets,
    config: LossConfig,
) -> None:
    classes = output.logits.shape[-1]
    # A label outside the classes is refused after the copy to the host.
    labels = targets.labels.clamp(0, classes - 1)
    rows = torch.arange(len(labels), device=labels.device)[:, None] * classes + labels  # (B, A)
    for of_layer, logits, codes in zip(cost, output.logits, output.codes, strict=True):
        calling = focal_cost(logits.float(), alpha=config.focal_alpha, gamma=config.focal_gamma)
        calling = config.class_weight * calling.transpose(1, 2).flatten(0, 1)  # (B * K, Q)
        torch.index_select(calling, 0, rows.flatten(), out=of_layer.flatten(0, 1))
        said = codes.float().transpose(1, 2).contiguous()  # (B, 10, Q)
        for code in range(MATCHED_CODES):
            predicted = said[:, code, None].expand_as(of_layer)
            true = targets.codes[..., code, None].expand_as(of_layer)
            distance = functional.smooth_l1_loss(predicted, true, reduction="none")
            of_layer.add_(distance, alpha=config.box_weight)


def _copy_to_host(output: DecoderOutput, targets: Targets, config: LossConfig) -> _Costs:
    """Costs and what belongs to them in one copy, whole numbers as float32, which holds them."""
    batch, queries = output.logits.shape[1:3]
    shapes = (_cost_shape(output, targets), tuple(targets.labels.shape), (batch,), (batch, queries))
    sizes = [math.prod(shape) for shape in shapes]
    packed = torch.empty(sum(sizes), device=output.logits.device)
    parts = zip(packed.split(sizes), shapes, strict=True)
    cost, labels, counts, active = (part.view(shape) for part, shape in parts)
    _write_cost(cost, output, targets, config)
    labels.copy_(targets.labels)
    counts.copy_(targets.counts)
    active.copy_(output.active) if output.active is not None else active.fill_(1)
    parts = zip(np.split(packed.cpu().numpy(), np.cumsum(sizes)[:-1]), shapes, strict=True)
    cost, labels, counts, active = (part.reshape(shape) for part, shape in parts)
    return _Costs(
        cost,
        labels.astype(np.int64),
        counts.astype(np.int64),
        active.astype(bool),
        output.logits.shape[-1],
    )


def _check_labels(costs: _Costs) -> None:
    classes = costs.num_classes
    for sample, labels in enumerate(costs.labels):
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"labels of sample {sample} must lie in 0..{classes - 1}; "
                f"got {labels.min()}..{labels.max()}"
            )


def _check_finite(cost: np.ndarray, layer: int, sample: int) -> None:
    if np.isfinite(cost).all():
        return
    target, query = np.argwhere(~np.isfinite(cost))[0]
    raise ValueError(
        f"matching cost of decoder layer {layer}, sample {sample} must be finite; got "
        f"{cost[target, query]} for true box {target}: the predictions diverged (lower the "
        "learning rate) or the box's centre, size or yaw is not finite"
    )
