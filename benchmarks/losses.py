"""Benchmark of matching and losses: all layers and groups at once against loops over them.

    python -m benchmarks.run losses --json benchmarks/results/losses_cpu.json
    python -m benchmarks.run losses --groups 1 --boxes 20

The sequential form loops over groups, layers and samples, like the released BEVFormer v2 code:
costs, their copy to the host, assignment, targets of every query, losses. Both forms run
alternately in one process, forward and backward; a figure is the median. With one thread, a time
is the CPU time of the process, so that figures are valid on a busy machine; with more threads it is
wall time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.timing import machine, medians
from bevstack.config import LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses import Criterion
from bevstack.losses.matcher import match
from bevstack.losses.targets import encode_targets
from bevstack.models.detection3d.box_code import DecoderOutput, encode
from bevstack.types import Annotations, Boxes3D

SUMMARY = "matching and losses of all layers and groups against loops over them"
CLASSES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: sizes and duration."""
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="total duration (default 10)")
    parser.add_argument("--layers", type=int, default=6, help="decoder layers (default 6)")
    parser.add_argument("--groups", type=int, default=11, help="groups of queries (default 11)")
    parser.add_argument("--queries", type=int, default=900, help="queries per group (default 900)")
    parser.add_argument("--batch", type=int, default=1, help="samples (default 1)")
    parser.add_argument("--boxes", type=int, default=34, help="true boxes per sample (default 34)")


def random_output(layers: int, batch: int, queries: int, groups: int) -> DecoderOutput:
    """Return predictions spread over the grid, with realistic sizes; leaves with gradients."""
    shape = (layers, batch, groups * queries)
    codes = torch.randn(*shape, 10)
    codes[..., :2] = (torch.rand(*shape, 2) - 0.5) * 100
    logits = torch.randn(*shape, CLASSES) - 4
    return DecoderOutput(logits.requires_grad_(), codes.requires_grad_(), groups)


def random_annotations(batch: int, boxes: int) -> list[Annotations]:
    """Return true boxes spread over the grid."""
    annotations = []
    for _ in range(batch):
        center = (torch.rand(boxes, 3) - 0.5) * torch.tensor((90.0, 90.0, 2.0))
        size, yaw = torch.rand(boxes, 3) * 4 + 0.5, (torch.rand(boxes) - 0.5) * 6.28
        true = Boxes3D(center, size, yaw, torch.randn(boxes, 2))
        labels = torch.randint(0, CLASSES, (boxes,))
        annotations.append(Annotations(true, labels, torch.ones_like(labels)))
    return annotations


def assign(
    logits: Tensor,  # (Q, K)
    codes: Tensor,  # (Q, 10)
    labels: Tensor,  # (A,)
    true: Tensor,  # (A, 10)
    config: LossConfig,
) -> tuple[Tensor, Tensor]:
    """Return the matched queries and true boxes of one sample, layer and group."""
    probability = logits.detach().sigmoid()
    alpha, gamma = config.focal_alpha, config.focal_gamma
    negative = -(1 - probability + 1e-12).log() * (1 - alpha) * probability.pow(gamma)
    positive = -(probability + 1e-12).log() * alpha * (1 - probability).pow(gamma)
    class_cost = (positive[:, labels] - negative[:, labels]) * config.class_weight
    distance = (codes.detach()[:, None, :8] - true[None, :, :8]).abs()
    box_cost = torch.where(distance < 1, 0.5 * distance**2, distance - 0.5).sum(-1)
    cost = (class_cost + config.box_weight * box_cost).cpu()
    rows, columns = linear_sum_assignment(cost)
    return torch.from_numpy(rows).to(logits.device), torch.from_numpy(columns).to(logits.device)


def layer_loss(
    logits: Tensor,  # (B, Q, K)
    codes: Tensor,  # (B, Q, 10)
    annotations: list[Annotations],
    config: LossConfig,
) -> tuple[Tensor, Tensor]:
    """Return class and box loss of one layer and group, with a loop over samples."""
    target_labels, targets, weights, matched = [], [], [], 0
    for sample_logits, boxes, true in zip(logits, codes, annotations, strict=True):
        encoded = encode(true.boxes)
        rows, columns = assign(sample_logits, boxes, true.labels, encoded, config)
        labels = true.labels.new_full((len(sample_logits),), CLASSES)
        labels[rows] = true.labels[columns]
        target, weight = torch.zeros_like(boxes), torch.zeros_like(boxes)
        target[rows] = encoded[columns]
        weight[rows] = 1.0
        target_labels.append(labels)
        targets.append(target)
        weights.append(weight)
        matched += len(rows)
    normaliser = max(matched, 1)
    one_hot = F.one_hot(torch.cat(target_labels), CLASSES + 1)[:, :CLASSES].type_as(logits)
    flat = logits.reshape(-1, CLASSES)
    probability = flat.sigmoid()
    distance = (1 - probability) * one_hot + probability * (1 - one_hot)
    alpha = config.focal_alpha
    balance = (alpha * one_hot + (1 - alpha) * (1 - one_hot)) * distance.pow(config.focal_gamma)
    entropy = F.binary_cross_entropy_with_logits(flat, one_hot, reduction="none")
    class_loss = config.class_weight * (entropy * balance).sum() / normaliser
    target, weight = torch.cat(targets), torch.cat(weights)
    weight = weight * weight.new_tensor(config.code_weights)
    finite = target.isfinite().all(-1)
    predicted = codes.reshape(-1, 10)
    smooth = F.smooth_l1_loss(predicted[finite], target[finite], reduction="none")
    box_loss = config.box_weight * (smooth * weight[finite]).sum() / normaliser
    return class_loss.nan_to_num(), box_loss.nan_to_num()


def sequential(output: DecoderOutput, annotations: list[Annotations], config: LossConfig) -> Tensor:
    """Return the total loss, computed by loops over groups, layers and samples."""
    queries = output.logits.shape[2] // output.num_groups
    terms: dict[str, Tensor] = {}
    for group in range(output.num_groups):
        rows = slice(group * queries, (group + 1) * queries)
        for layer, (logits, codes) in enumerate(zip(output.logits, output.codes, strict=True)):
            parts = layer_loss(logits[:, rows], codes[:, rows], annotations, config)
            for name, value in zip(("class", "box"), parts, strict=True):
                key = f"{name}_{layer}"
                terms[key] = terms.get(key, 0.0) + value / output.num_groups
    return torch.stack(tuple(terms.values())).sum()


def with_gradients(loss: Callable[[], Tensor], output: DecoderOutput) -> Callable[[], Any]:
    """Return a function that runs a loss and its gradients once."""
    return lambda: torch.autograd.grad(loss(), (output.logits, output.codes))


def measure(
    output: DecoderOutput, annotations: list[Annotations], seconds: float, *, wall: bool
) -> dict[str, float]:
    """Check that both forms agree in losses and gradients, time them, and return the figures."""
    config, grid = LossConfig(), BEVGrid()
    criterion = Criterion(config)

    def ours() -> Tensor:
        return criterion(output, annotations, grid).total

    def theirs() -> Tensor:
        return sequential(output, annotations, config)

    both = [with_gradients(loss, output) for loss in (ours, theirs)]
    torch.testing.assert_close(ours(), theirs(), rtol=1e-5, atol=1e-5)  # sums in another order
    for one, other in zip(both[0](), both[1](), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    targets = encode_targets(annotations, grid, "cpu")
    times = medians([*both, lambda: match(output, targets, config)], seconds, wall)
    return {
        "vectorised_ms": round(times[0], 2),
        "sequential_ms": round(times[1], 2),
        "speedup": round(times[1] / times[0], 1),
        "matching_of_vectorised_ms": round(times[2], 2),
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print the figures with their sizes, and return them."""
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    sizes = {n: getattr(arguments, n) for n in ("layers", "groups", "queries", "batch", "boxes")}
    output = random_output(arguments.layers, arguments.batch, arguments.queries, arguments.groups)
    annotations = random_annotations(arguments.batch, arguments.boxes)
    wall = arguments.threads > 1
    row = measure(output, annotations, arguments.seconds, wall=wall)
    print(*(f"{name} {value}" for name, value in {**sizes, **row}.items()), sep="\n", flush=True)
    return {
        **machine(),
        "threads": arguments.threads,
        "clock": "wall" if wall else "process CPU time",
        **sizes,
        **row,
    }
