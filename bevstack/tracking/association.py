"""Assignment of a frame's boxes to tracks."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def associate(
    predicted: Tensor,  # (M, 2) metres, predicted centres of the tracks
    detected: Tensor,  # (D, 2) metres, centres of the boxes
    same_class: Tensor,  # (M, D) bool
    reach_m: Tensor,  # (M, D) distance from which a track and a box are no pair
) -> tuple[Tensor, Tensor]:  # (P,) rows of the tracks, (P,) rows of the boxes
    """Assign boxes to tracks, at most one to each, with the greatest total closeness.

    The closeness of a pair falls linearly from 1 at distance 0 to 0 at the reach. A track and a box
    of different classes, or at the reach or beyond, are no pair (Hungarian method).
    """
    distances = torch.linalg.vector_norm(predicted[:, None] - detected, dim=-1)
    allowed = same_class & (distances < reach_m)
    closeness = torch.where(allowed, 1 - distances / reach_m, 0.0)
    rows, columns = linear_sum_assignment(closeness.cpu().numpy(), maximize=True)
    track_rows, box_rows = torch.from_numpy(rows), torch.from_numpy(columns)
    paired = allowed[track_rows, box_rows]
    return track_rows[paired], box_rows[paired]


def choose_starts(
    centers: Tensor,  # (D, 2) metres, of a frame's boxes
    scores: Tensor,  # (D,)
    labels: Tensor,  # (D,)
    has_track: Tensor,  # (D,) bool
    gap_m: float,
) -> Tensor:  # (D,) bool
    """Choose the boxes that start a track: those without a track that are no duplicates.

    A duplicate lies nearer than the gap to a box of its class that has a track or starts one. The
    best boxes choose first, as in greedy non-maximum suppression by the distance of centres
    (T. Yin et al., arXiv 2006.11275). There, duplicates are removed; here they may continue a
    track, so that two objects which come close to each other both keep theirs.
    """
    near = torch.cdist(centers, centers) < gap_m
    near &= labels[:, None] == labels
    blocked = has_track | near[:, has_track].any(1)
    starts = torch.zeros_like(has_track)
    for row in scores.argsort(descending=True, stable=True).tolist():
        if not blocked[row]:
            starts[row] = True
            blocked |= near[row]
    return starts
