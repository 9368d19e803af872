"""Losses of DINO (arXiv 2203.03605): matched predictions of every layer, and noised objects.

Letters: B batch, Q queries, T objects, K classes, M matched rows, N queries with noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from bevstack.config.dino import DinoConfig
from bevstack.losses.criterion import Losses
from bevstack.losses.focal import focal_cost, sigmoid_focal_loss
from bevstack.losses.reduction import mean_over_processes
from bevstack.models.detection2d.boxes import matched_giou, pairwise_giou
from bevstack.models.detection2d.dino.model import DinoOutput, relative_boxes
from bevstack.models.detection2d.dino.noise import NoisedQueries
from bevstack.types.pictures2d import PictureBatch

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss
FIRST_WEIGHT = 0.5  # of the losses of the first of two backbones, as released
CLASS_COST, BOX_COST, OVERLAP_COST = 2.0, 5.0, 2.0


class SetLosses(NamedTuple):
    """Losses of one set of predictions, with their weights."""

    classes: Tensor  # ()
    boxes: Tensor  # () distance of centre, width and height
    overlaps: Tensor  # ()


class _Truth(NamedTuple):
    """Objects of one image."""

    labels: Tensor  # (T,)
    boxes: Tensor  # (T, 4) centre, width, height, shares of the picture
    sides_px: Tensor  # (4,) width, height, width, height of the picture


def dino_losses(output: DinoOutput, batch: PictureBatch, config: DinoConfig) -> Losses:
    """Return the sum of all losses and its terms.

    Terms are "class", "box" and "overlap" with "_proposals", "_0", "_1", ... by decoder layer, and
    "_noised_0", ... of the objects with noise. Those of the first of two backbones end with
    "_first".
    """
    terms = _terms(output, batch, config)
    if output.first is not None:
        first = _terms(output.first, batch, config)
        terms |= {f"{name}_first": FIRST_WEIGHT * value for name, value in first.items()}
    total = torch.stack(list(terms.values())).sum()
    return Losses(total, {name: value.detach() for name, value in terms.items()})


def _terms(output: DinoOutput, batch: PictureBatch, config: DinoConfig) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    for name, losses in set_losses(output, batch, config).items():
        for kind, value in zip(("class", "box", "overlap"), losses, strict=True):
            terms[f"{kind}_{name}"] = value
    return terms


def set_losses(output: DinoOutput, batch: PictureBatch, config: DinoConfig) -> dict[str, SetLosses]:
    """Return the losses of each set of predictions by name."""
    truth = _truth(batch)
    start = 0 if output.noised is None else output.noised.total
    sets = {"proposals": (output.proposal_logits, output.proposal_boxes)}
    layers = list(zip(output.logits, output.boxes, strict=True))
    for index, (logits, boxes) in enumerate(layers):
        sets[str(index)] = (logits[:, start:], boxes[:, start:])
    losses = {
        name: _losses(logits, boxes, match_all(logits, boxes, truth), truth, config)
        for name, (logits, boxes) in sets.items()
    }
    if output.noised is not None:
        rows = _noised_rows(output.noised, truth)
        for index, (logits, boxes) in enumerate(layers):
            losses[f"noised_{index}"] = _losses(
                logits[:, :start], boxes[:, :start], rows, truth, config
            )
    return losses


def _truth(batch: PictureBatch) -> list[_Truth]:
    truth = []
    for own, size in zip(batch.objects, batch.sizes, strict=True):
        height, width = size.resized
        sides = own.boxes.new_tensor([width, height, width, height])
        truth.append(_Truth(own.labels, relative_boxes(own.boxes, size), sides))
    return truth


@torch.no_grad()
def match_all(
    logits: Tensor,  # (B, Q, K)
    boxes: Tensor,  # (B, Q, 4)
    truth: Sequence[_Truth],  # B
) -> list[tuple[Tensor, Tensor]]:  # B x queries, objects, (M,) int64 each
    """Return the best assignment of objects to queries of each image."""
    matches = []
    for own_logits, own_boxes, own in zip(logits.float(), boxes.float(), truth, strict=True):
        classes = focal_cost(own_logits, alpha=ALPHA, gamma=GAMMA)[:, own.labels]
        distance = torch.cdist(own_boxes, own.boxes, p=1)
        overlap = pairwise_giou(_corners(own_boxes, own), _corners(own.boxes, own))
        cost = CLASS_COST * classes + BOX_COST * distance - OVERLAP_COST * overlap
        queries, objects = linear_sum_assignment(cost.cpu().numpy())
        matches.append(
            (
                torch.as_tensor(queries, device=logits.device),
                torch.as_tensor(objects, device=logits.device),
            )
        )
    return matches


def _noised_rows(
    noised: NoisedQueries, truth: Sequence[_Truth]
) -> list[tuple[Tensor, Tensor]]:  # B x queries, objects
    """Return the positive queries of every group, which are of the object that they come from."""
    rows = []
    for own in truth:
        objects = torch.arange(len(own.labels), device=own.labels.device)
        starts = torch.arange(noised.groups, device=objects.device) * 2 * noised.objects
        rows.append(((starts[:, None] + objects).flatten(), objects.repeat(noised.groups)))
    return rows


def _losses(
    logits: Tensor,  # (B, Q, K)
    boxes: Tensor,  # (B, Q, 4)
    matches: Sequence[tuple[Tensor, Tensor]],  # B
    truth: Sequence[_Truth],  # B
    config: DinoConfig,
) -> SetLosses:
    """Return the losses of a set, divided by the number of matched rows of all processes."""
    logits, boxes = logits.float(), boxes.float()
    targets = torch.zeros_like(logits)
    found, wanted, found_px, wanted_px = [], [], [], []
    for image, ((queries, objects), own) in enumerate(zip(matches, truth, strict=True)):
        targets[image, queries, own.labels[objects]] = 1
        found.append(boxes[image, queries])
        wanted.append(own.boxes[objects])
        found_px.append(_corners(found[-1], own))
        wanted_px.append(_corners(wanted[-1], own))
    matched = float(sum(len(queries) for queries, _ in matches))
    count = mean_over_processes(logits.new_tensor(matched)).clamp(min=1)
    classes = sigmoid_focal_loss(logits, targets, alpha=ALPHA, gamma=GAMMA).sum()
    distance = functional.l1_loss(torch.cat(found), torch.cat(wanted), reduction="sum")
    overlap = (1 - matched_giou(torch.cat(found_px), torch.cat(wanted_px))).sum()
    return SetLosses(
        config.class_weight * classes / count,
        config.box_weight * distance / count,
        config.overlap_weight * overlap / count,
    )


def _corners(
    boxes: Tensor,  # (..., 4) centre, width, height, shares of the picture
    own: _Truth,
) -> Tensor:  # (..., 4) corners in pixels
    half = boxes[..., 2:] / 2
    return torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), -1) * own.sides_px
