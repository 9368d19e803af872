"""True boxes of a batch as padded tensors of box codes.

Letters: B batch, A true boxes (most of any sample).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bevstack.geometry import BEVGrid
from bevstack.models.box_code import CODE_SIZE, encode
from bevstack.types import Annotations


@dataclass(frozen=True)
class Targets:
    """What the decoder should say; rows beyond a sample's count are padding."""

    codes: Tensor  # (B, A, 10) float32
    labels: Tensor  # (B, A) int64
    counts: tuple[int, ...]  # B

    def repeat_interleave(self, times: int) -> Targets:
        """Every sample so many times in a row: one for each group of queries."""
        return Targets(
            self.codes.repeat_interleave(times, 0),
            self.labels.repeat_interleave(times, 0),
            tuple(count for count in self.counts for _ in range(times)),
        )


def encode_targets(
    annotations: Sequence[Annotations],
    grid: BEVGrid,
    device: torch.device | str,
) -> Targets:
    """The true boxes that train: centre strictly inside the grid, and some lidar or radar point in.

    The published recipe's filters (BEVFormer v2 specification, sections 2.1 and 3.4).
    """
    if not annotations:  # an empty batch, which pad_sequence refuses
        return Targets(
            torch.zeros(0, 0, CODE_SIZE, device=device),
            torch.zeros(0, 0, dtype=torch.int64, device=device),
            (),
        )
    kept = [_trainable(a, grid) for a in annotations]
    codes = [encode(a.boxes.to(torch.float32)) for a in kept]
    return Targets(
        codes=pad_sequence(codes, batch_first=True).to(device),
        labels=pad_sequence([a.labels for a in kept], batch_first=True).to(device),
        counts=tuple(len(a) for a in kept),
    )


def _trainable(annotations: Annotations, grid: BEVGrid) -> Annotations:
    return annotations[grid.contains(annotations.boxes.center) & (annotations.num_points > 0)]
