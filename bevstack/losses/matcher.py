"""One-to-one matching of queries and true boxes (DETR, arXiv 2005.12872, section 3.1).

Letters: R decoder layers, B batch, G groups of queries, Q queries of all groups, A true boxes (the
largest number in any sample), K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from bevstack.config import LossConfig
from bevstack.losses.focal import focal_cost
from bevstack.losses.targets import Targets
from bevstack.models.detection3d.box_code import DecoderOutput

MATCHED_CODES = 8  # the matching ignores the velocity


@dataclass(frozen=True)
class Matches:
    """Matched (layer, sample, query, true box) rows of all layers, samples and groups."""

    layer: Tensor  # (M,) int64
    sample: Tensor  # (M,) int64
    query: Tensor  # (M,) int64
    target: Tensor  # (M,) int64, index among the sample's trained boxes


@dataclass(frozen=True)
class _Costs:
    """Inputs of the assignment, on the host."""

    cost: NDArray[np.float32]  # (R, B, A, Q)
    labels: NDArray[np.int64]  # (B, A)
    counts: NDArray[np.int64]  # (B,) true boxes to train on
    active: NDArray[np.bool_]  # (B, Q)
    num_classes: int


@torch.no_grad()
def matching_cost(
    output: DecoderOutput,
    targets: Targets,
    config: LossConfig,
) -> Tensor:  # (R, B, A, Q) float32
    """Compute the weighted focal cost of the true class plus the weighted distance of the boxes.

    The distance is smooth-L1 over the first eight codes. The cost is added up in place, layer by
    layer and code by code, so that it needs little more memory than the result.
    """
    cost = torch.empty(_cost_shape(output, targets), device=output.logits.device)
    _write_cost(cost, output, targets, config)
    return cost


@torch.no_grad()
def match(output: DecoderOutput, targets: Targets, config: LossConfig) -> Matches:
    """Find the cheapest one-to-one assignment of each layer, sample and group (Hungarian method).

    All costs are computed first. One copy brings them to the host, together with the labels, counts
    and activity of queries that the assignment reads. Inactive queries and true boxes that are not
    trained on stay unmatched.

    Raises:
        ValueError: a label lies outside the classes (the message names the sample), or a cost is
            not finite (the message names decoder layer and sample).
    """
    costs = _copy_to_host(output, targets, config)
    _check_labels(costs)
    groups = output.num_groups
    queries = output.codes.shape[2] // groups
    rows = [np.zeros((4, 0), np.int64)]
    for sample, count in enumerate(costs.counts):
        for start in range(0, groups * queries, queries) if count else ():
            group = slice(start, start + queries)
            active = costs.active[sample, group]
            all_active = bool(active.all())
            for layer, cost in enumerate(costs.cost[:, sample, :count, group]):
                active_cost = cost if all_active else cost[:, active]
                _check_finite(active_cost, targets, layer, sample)
                target, query = linear_sum_assignment(active_cost)
                query = query if all_active else np.flatnonzero(active)[query]
                layer_and_sample = (np.full_like(query, layer), np.full_like(query, sample))
                rows.append(np.stack((*layer_and_sample, start + query, target)))
    matches = np.concatenate(rows, axis=1)
    matches = matches[:, np.lexsort(matches[2::-1])]  # by layer, sample, query
    return Matches(*torch.from_numpy(matches).to(output.codes.device).unbind(0))


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
    # ``match`` refuses a label outside the classes after the copy to the host.
    labels = targets.labels.clamp(0, classes - 1)
    rows = torch.arange(len(labels), device=labels.device)[:, None] * classes + labels  # (B, A)
    for layer_cost, logits, codes in zip(cost, output.logits, output.codes, strict=True):
        class_cost = focal_cost(logits.float(), alpha=config.focal_alpha, gamma=config.focal_gamma)
        class_cost = config.class_weight * class_cost.transpose(1, 2).flatten(0, 1)  # (B * K, Q)
        torch.index_select(class_cost, 0, rows.flatten(), out=layer_cost.flatten(0, 1))
        predicted_codes = codes.float().transpose(1, 2).contiguous()  # (B, 10, Q)
        for code in range(MATCHED_CODES):
            predicted = predicted_codes[:, code, None].expand_as(layer_cost)
            true = targets.codes[..., code, None].expand_as(layer_cost)
            distance = functional.smooth_l1_loss(predicted, true, reduction="none")
            layer_cost.add_(distance, alpha=config.box_weight)


def _copy_to_host(output: DecoderOutput, targets: Targets, config: LossConfig) -> _Costs:
    """Copy costs, labels, counts and activity to the host at once, packed as float32.

    Labels and counts are small whole numbers, which float32 holds exactly.
    """
    batch, queries = output.logits.shape[1:3]
    shapes = (_cost_shape(output, targets), tuple(targets.labels.shape), (batch,), (batch, queries))
    sizes = [math.prod(shape) for shape in shapes]
    packed = torch.empty(sum(sizes), device=output.logits.device)
    parts = zip(torch.split(packed, sizes), shapes, strict=True)
    cost, labels, counts, active = (part.view(shape) for part, shape in parts)
    _write_cost(cost, output, targets, config)
    labels.copy_(targets.labels)
    counts.copy_(targets.counts)
    active.copy_(output.active) if output.active is not None else active.fill_(1)
    host_parts = zip(np.split(packed.cpu().numpy(), np.cumsum(sizes)[:-1]), shapes, strict=True)
    host_cost, host_labels, host_counts, host_active = (
        part.reshape(shape) for part, shape in host_parts
    )
    return _Costs(
        host_cost,
        host_labels.astype(np.int64),
        host_counts.astype(np.int64),
        host_active.astype(bool),
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


def _check_finite(cost: NDArray[np.float32], targets: Targets, layer: int, sample: int) -> None:
    if np.isfinite(cost).all():
        return
    target, query = np.argwhere(~np.isfinite(cost))[0]
    code = targets.codes[sample, target, :MATCHED_CODES].cpu()
    if not torch.isfinite(code).all():
        x, y, log_length, log_width, z, log_height = (float(value) for value in code[:6])
        size = [round(math.exp(value), 3) for value in (log_length, log_width, log_height)]
        raise ValueError(
            f"true boxes of sample {sample} must have a finite centre and yaw and a positive size; "
            f"got the size {size} at {[round(v, 3) for v in (x, y, z)]} m: correct the annotation"
        )
    raise ValueError(
        f"matching cost of decoder layer {layer}, sample {sample} must be finite; got "
        f"{cost[target, query]} for true box {target}: the predictions diverged (lower the "
        "learning rate)"
    )
