"""Choice of anchors and regions that the losses see: matching with objects, and sampling.

Letters: R boxes, T objects, P positive and N negative samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.models.detection2d.boxes import pairwise_iou

IGNORED, NEGATIVE = -2, -1  # in place of the index of an object

# (candidates, number to choose, random generator) to the chosen ones
Choice = Callable[[Tensor, int, torch.Generator], Tensor]


class Samples(NamedTuple):
    """Boxes of one image that the losses see."""

    positive: Tensor  # (P,) int64, indices of boxes, ascending
    negative: Tensor  # (N,) int64, the same
    objects: Tensor  # (P,) int64, the object of each positive one


def choose_at_random(candidates: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return a random choice of candidates."""
    order = torch.randperm(len(candidates), generator=generator)[:count]
    return candidates[order.to(candidates.device)]


def match_boxes(
    boxes: Tensor,  # (R, 4)
    objects: Tensor,  # (T, 4)
    *,
    positive_iou: float,
    negative_iou: float,
    best_iou: float | None,
) -> Tensor:  # (R,) int64
    """Return the index of the object that each box is matched with, ``NEGATIVE`` or ``IGNORED``.

    A box is positive from ``positive_iou`` on and negative below ``negative_iou``. With
    ``best_iou``, boxes that have an object's largest overlap are positive from that value on,
    whatever their overlap with further objects; a later object takes precedence.
    """
    if not len(objects) or not len(boxes):
        return torch.full((len(boxes),), NEGATIVE, dtype=torch.int64, device=boxes.device)
    overlaps = pairwise_iou(objects, boxes)  # (T, R)
    best, index = overlaps.max(0)
    matches = torch.full_like(index, IGNORED)
    matches = matches.masked_fill(best < negative_iou, NEGATIVE)
    matches = torch.where(best >= positive_iou, index, matches)
    if best_iou is None:
        return matches
    largest = overlaps.amax(1, keepdim=True)  # (T, 1)
    takes = (overlaps == largest) & (largest >= best_iou)  # (T, R)
    rank = torch.arange(len(objects), device=boxes.device)[:, None]
    latest = torch.where(takes, rank, NEGATIVE).amax(0)
    return torch.where(latest >= 0, latest, matches)


def sample_boxes(
    matches: Tensor,  # (R,) of ``match_boxes``
    *,
    count: int,
    positive_share: float,
    generator: torch.Generator,
    choose: Choice = choose_at_random,
) -> Samples:
    """Return up to ``count`` boxes: at most the share of positive ones, the rest negative."""
    positive = _chosen(
        (matches >= 0).nonzero()[:, 0], int(count * positive_share), generator, choose
    )
    rest = count - len(positive)
    negative = _chosen((matches == NEGATIVE).nonzero()[:, 0], rest, generator, choose)
    return Samples(positive, negative, matches[positive])


def _chosen(
    candidates: Tensor, count: int, generator: torch.Generator, choose: Choice
) -> Tensor:  # (<= count,) int64, ascending
    if len(candidates) <= count:
        return candidates
    return choose(candidates, count, generator).sort().values
