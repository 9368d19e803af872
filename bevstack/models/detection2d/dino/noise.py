"""Objects with noise as further queries, which the decoder learns to correct (DN-DETR, DINO).

arXiv 2203.01305 and 2203.03605, section 3.3. Letters: B batch, T objects of all images, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.models.detection2d.dino.positions import inverse_sigmoid


class NoisedQueries(NamedTuple):
    """Objects with noise: each group holds positive ones, then negative ones, padded."""

    labels: Tensor  # (B, N) int64, -1 in the padding
    boxes: Tensor  # (B, N, 4) logits of centre, width and height; 0 in the padding
    groups: int
    objects: int  # most objects of an image; a group has twice this number of queries

    @property
    def total(self) -> int:
        """Return N, the number of queries of an image."""
        return 2 * self.groups * self.objects


@dataclass(frozen=True)
class Draws:
    """Source of random numbers, in the order of use."""

    uniform: Callable[[tuple[int, ...]], Tensor]  # (shape) in [0, 1)
    integers: Callable[[tuple[int, ...], int], Tensor]  # (shape, end) in 0, ..., end - 1

    @staticmethod
    def seeded(seeds: Sequence[int], device: torch.device) -> Draws:
        """Return numbers that follow from the seeds of a batch."""
        generator = torch.Generator().manual_seed(hash(tuple(seeds)) % 2**63)
        return Draws(
            lambda shape: torch.rand(shape, generator=generator).to(device),
            lambda shape, end: torch.randint(end, shape, generator=generator).to(device),
        )


def noised_queries(
    labels: Sequence[Tensor],  # B x (T_b,)
    boxes: Sequence[Tensor],  # B x (T_b, 4) centre, width and height, shares of the picture
    *,
    most: int,  # of noised objects of an image, about
    label_noise: float,
    box_noise: float,
    num_classes: int,
    draws: Draws,
) -> NoisedQueries:
    """Return objects with other classes and shifted corners; negatives are shifted further."""
    counts = [len(own) for own in labels]
    objects = max(counts)
    groups = max(1, most // objects) if objects else 1
    label, box = torch.cat(list(labels)), torch.cat(list(boxes))
    image = torch.repeat_interleave(torch.tensor(counts)).to(label.device)
    place = torch.cat([torch.arange(count) for count in counts]).to(label.device)
    copies, total = 2 * groups, len(label)
    label, box = label.repeat(copies), box.repeat(copies, 1)
    flipped = (draws.uniform((len(label),)) < label_noise * 0.5).nonzero()[:, 0]
    label = label.index_copy(0, flipped, draws.integers((len(flipped),), num_classes))
    copy = torch.arange(copies, device=label.device).repeat_interleave(total)
    sign = draws.integers((len(box), 4), 2) * 2 - 1
    size = draws.uniform((len(box), 4)) + (copy % 2)[:, None]
    half = (box[:, 2:] / 2).repeat(1, 2)
    corners = torch.cat((box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2), 1)
    corners = (corners + sign * size * half * box_noise).clamp(0, 1)
    moved = torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), 1)
    rows, columns = image.repeat(copies), place.repeat(copies) + copy * objects
    shape = (len(counts), copies * objects)
    all_labels = label.new_full(shape, -1)
    all_labels[rows, columns] = label
    all_boxes = box.new_zeros((*shape, 4))
    all_boxes[rows, columns] = inverse_sigmoid(moved)
    return NoisedQueries(all_labels, all_boxes, groups, objects)


def hidden_queries(
    noised: NoisedQueries, num_queries: int, device: torch.device
) -> Tensor:  # (N + Q, N + Q) bool
    """Return True where a query may not see another one.

    Queries without noise see none with it, and groups do not see each other.
    """
    count = noised.total
    group = torch.arange(count, device=device) // max(1, 2 * noised.objects)
    hidden = torch.zeros((count + num_queries,) * 2, dtype=torch.bool, device=device)
    hidden[count:, :count] = True
    hidden[:count, :count] = group[:, None] != group
    return hidden
