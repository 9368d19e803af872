"""Non-maximum suppression within each class, of boxes in the image and of boxes seen from above.

Letters: I images, B batch, D boxes an image or a sample, R rows returned for an image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.geometry import bev_iou
from bevstack.shapes import expect_shape

ROWS_AT_ONCE = 1024  # limits the memory of pairwise overlaps to 1,024 x D numbers


def keep_best(
    boxes_px: Tensor,  # (I, D, 4) (left, top, right, bottom)
    scores: Tensor,  # (I, D) order of suppression and of the result
    ranks: Tensor,  # (I, D) choice of ``count`` boxes if more are left
    *,
    labels: Tensor,  # (I, D) int64
    valid: Tensor,  # (I, D) bool, boxes that take part
    iou: float,
    count: int,
) -> Tensor:  # (I, R) int64
    """Return the indices of the boxes that remain after suppression, best score first.

    A box is suppressed if its overlap with a remaining box of the same class and a higher score
    exceeds ``iou``. Rows are padded with -1; R is the smaller of ``count`` and D.
    """
    rows = min(count, boxes_px.shape[1])
    index = torch.full((len(boxes_px), rows), -1, dtype=torch.int64, device=boxes_px.device)
    for image in range(len(boxes_px)):
        candidates = valid[image].nonzero().squeeze(-1)
        order = scores[image, candidates].argsort(descending=True, stable=True)
        candidates = candidates[order]
        remaining = suppress(boxes_px[image, candidates], labels[image, candidates], iou=iou)
        kept = candidates[remaining]  # best score first
        if len(kept) > rows:
            chosen = ranks[image, kept].argsort(descending=True, stable=True)[:rows]
            kept = kept[chosen.sort().values]
        index[image, : len(kept)] = kept
    return index


def suppress(
    boxes_px: Tensor,  # (D, 4) best first
    labels: Tensor,  # (D,) int64
    *,
    iou: float,
) -> Tensor:  # (D,) bool
    """Return True for boxes that remain after greedy suppression within each class."""
    kept = torch.ones_like(labels, dtype=torch.bool)
    for label in torch.unique(labels):
        (rows,) = (labels == label).nonzero(as_tuple=True)
        kept[rows] = greedy_suppression(_suppresses(boxes_px[rows], iou))
    return kept


def greedy_suppression(
    suppresses: Tensor,  # (..., D, D) bool, (i, j): box i suppresses j if kept; False for i >= j
) -> Tensor:  # (..., D) bool
    """Return True for boxes that remain after greedy suppression, where boxes are best first.

    All boxes are decided at once, given the boxes that the previous round kept, until nothing
    changes. After n rounds the first n decisions equal the greedy ones; in practice a few rounds
    are enough.
    """
    kept = suppresses.new_ones(suppresses.shape[:-1])
    for _ in range(suppresses.shape[-1]):
        decided = ~(suppresses & kept[..., None]).any(-2)
        if torch.equal(decided, kept):
            break
        kept = decided
    return kept


def pairwise_iou(
    first: Tensor,  # (A, 4)
    second: Tensor,  # (B, 4)
) -> Tensor:  # (A, B)
    """Return intersection over union; 0 for boxes without area."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def _suppresses(boxes_px: Tensor, iou: float) -> Tensor:  # (D, D) bool
    """Return True at (i, j) if box i is better than box j and overlaps it by more than ``iou``."""
    blocks = [pairwise_iou(rows, boxes_px) > iou for rows in torch.split(boxes_px, ROWS_AT_ONCE)]
    return torch.cat(blocks).triu(1)


@torch.no_grad()
def suppress_in_bev(
    footprints: Tensor,  # (B, D, 5) x, y, length, width in metres, yaw in radians; best first
    labels: Tensor,  # (B, D) int64
    *,
    valid: Tensor,  # (B, D) bool, boxes that take part
    iou: float,
) -> Tensor:  # (B, D) bool
    """Return True for valid boxes that remain after suppression seen from above.

    A box is suppressed if its overlap with a better remaining box of the same class exceeds
    ``iou``. Overlaps are those of the rotated rectangles. They are computed only for pairs of one
    class whose circumscribed circles intersect.

    Raises:
        ValueError: shapes that do not agree.
    """
    sizes = expect_shape("footprints", footprints, ("B", "D", 5))
    expect_shape("labels", labels, ("B", "D"), sizes)
    expect_shape("valid", valid, ("B", "D"), sizes)
    pairs = _circles_meet(footprints) & (labels[:, :, None] == labels[:, None]) & valid[:, :, None]
    suppresses = (pairs & valid[:, None]).triu(1)
    sample, better, worse = suppresses.nonzero(as_tuple=True)
    overlap = bev_iou(footprints[sample, better], footprints[sample, worse])
    suppresses[sample, better, worse] = overlap > iou
    return greedy_suppression(suppresses) & valid


def _circles_meet(footprints: Tensor) -> Tensor:  # (B, D, D) bool
    centers = footprints[..., :2]
    squared_distances = (centers[:, :, None] - centers[:, None]).square().sum(-1)
    radius: Tensor = torch.linalg.vector_norm(footprints[..., 2:4], dim=-1) / 2
    return squared_distances <= (radius[:, :, None] + radius[:, None]).square()
