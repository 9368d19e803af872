"""True boxes of a batch as padded tensors of box codes.

Letters: B batch, A true boxes (the largest number in any sample).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.box_code import CODE_SIZE, encode
from bevstack.types import Annotations


@dataclass(frozen=True)
class Targets:
    """Training targets of the decoder; only a sample's first ``counts`` rows are trained on.

    All tensors lie on the device of the predictions, so that reading them needs no synchronisation.
    """

    codes: Tensor  # (B, A, 10) float32
    labels: Tensor  # (B, A) int64
    counts: Tensor  # (B,) int64


def encode_targets(
    annotations: Sequence[Annotations],
    grid: BEVGrid,
    device: torch.device | str,
) -> Targets:
    """Encode the true boxes, those to train on first.

    A box is trained on if its centre lies strictly inside the grid and it contains at least one
    lidar or radar point: the filters of the published recipe (BEVFormer v2 specification, sections
    2.1 and 3.4). The order of the boxes is kept among those trained on and among the rest.
    """
    if not annotations:  # an empty batch, which pad_sequence refuses
        none = torch.zeros(0, 0, dtype=torch.int64, device=device)
        return Targets(torch.zeros(0, 0, CODE_SIZE, device=device), none, none.sum(1))

    codes = _padded([encode(a.boxes.to(torch.float32)) for a in annotations], device)
    labels = _padded([a.labels for a in annotations], device)
    # The filter runs in the boxes' original dtype. Padding is False: never trained on.
    trained = _padded([_is_trained(a, grid) for a in annotations], device)
    order = trained.to(torch.uint8).argsort(dim=1, descending=True, stable=True)  # (B, A)
    return Targets(
        codes=codes.gather(1, order[..., None].expand_as(codes)),
        labels=labels.gather(1, order),
        counts=trained.sum(1),
    )


def _is_trained(annotations: Annotations, grid: BEVGrid) -> Tensor:  # (A,) bool
    return grid.contains(annotations.boxes.center) & (annotations.num_points != 0)


def _padded(rows: list[Tensor], device: torch.device | str) -> Tensor:  # (B, A, ...)
    return pad_sequence(rows, batch_first=True).to(device, non_blocking=True)
