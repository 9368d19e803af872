"""Which box belongs to which track."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def associate(
    expected: Tensor,  # (M, 2) metres, where the tracks are expected
    found: Tensor,  # (D, 2) metres, where the boxes are
    same_class: Tensor,  # (M, D) bool
    reach_m: Tensor,  # (M, D) how far apart the two may be
) -> tuple[Tensor, Tensor]:  # (P,) rows of the tracks, (P,) rows of the boxes
    """Pairs of tracks and boxes, each in one pair at most, which are closest as a whole.

    Closeness is 1 for a pair in one place and 0 at the reach; pairs beyond it, and of two classes,
    are none. The sum over the pairs is the greatest that there is (Hungarian method).
    """
    apart = torch.linalg.vector_norm(expected[:, None] - found, dim=-1)
    possible = same_class & (apart < reach_m)
    closeness = torch.where(possible, 1 - apart / reach_m, 0.0)
    rows, columns = linear_sum_assignment(closeness.cpu().numpy(), maximize=True)
    tracks, boxes = torch.from_numpy(rows), torch.from_numpy(columns)
    paired = possible[tracks, boxes]
    return tracks[paired], boxes[paired]
