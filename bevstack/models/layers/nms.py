"""Non-maximum suppression within each class: of boxes in the image, and of boxes seen from above.

Letters: I images, B batch, D boxes an image or a sample, R rows returned for an image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.geometry import bev_iou
from bevstack.shapes import expect_shape

ROWS_AT_ONCE = 1024  # bounds the memory of pairwise overlaps: 1,024 x D numbers at a time


def keep_best(
    boxes_px: Tensor,  # (I, D, 4) (left, top, right, bottom)
    scores: Tensor,  # (I, D) who wins, and the order of what is given
    ranks: Tensor,  # (I, D) who is given where more than ``count`` are left
    *,
    labels: Tensor,  # (I, D) int64
    valid: Tensor,  # (I, D) bool, boxes that take part
    iou: float,
    count: int,
) -> Tensor:  # (I, R) int64
    """Indices of the boxes that no better kept box of their class overlaps by more than ``iou``.

    Best first, filled up with -1; R is the smaller of ``count`` and D.
    """
    rows = min(count, boxes_px.shape[1])
    index = torch.full((len(boxes_px), rows), -1, dtype=torch.int64, device=boxes_px.device)
    for image in range(len(boxes_px)):
        taking_part = valid[image].nonzero().squeeze(-1)
        order = scores[image, taking_part].argsort(descending=True, stable=True)
        of_image = taking_part[order]
        survives = suppress(boxes_px[image, of_image], labels[image, of_image], iou=iou)
        left = of_image[survives]  # best score first
        if len(left) > rows:
            chosen = ranks[image, left].argsort(descending=True, stable=True)[:rows]
            left = left[chosen.sort().values]
        index[image, : len(left)] = left
    return index


def suppress(
    boxes_px: Tensor,  # (D, 4) best first
    labels: Tensor,  # (D,) int64
    *,
    iou: float,
) -> Tensor:  # (D,) bool
    """Which boxes greedy suppression leaves; only boxes of one class are compared."""
    kept = torch.ones_like(labels, dtype=torch.bool)
    for label in labels.unique():
        (rows,) = (labels == label).nonzero(as_tuple=True)
        kept[rows] = survivors(_beats(boxes_px[rows], iou))
    return kept


def survivors(
    beats: Tensor,  # (..., D, D) bool, entry (i, j): box i would suppress j; only where i < j
) -> Tensor:  # (..., D) bool
    """Which boxes, best first, greedy suppression leaves.

    All boxes are judged at once, again and again, by those that the last round left, until nothing
    changes: after n rounds the first n verdicts are the greedy ones, and in practice a handful of
    rounds settles all.
    """
    kept = beats.new_ones(beats.shape[:-1])
    for _ in range(beats.shape[-1]):
        judged = ~(beats & kept[..., None]).any(-2)
        if torch.equal(judged, kept):
            break
        kept = judged
    return kept


def pairwise_iou(
    first: Tensor,  # (A, 4)
    second: Tensor,  # (B, 4)
) -> Tensor:  # (A, B)
    """Intersection over union; 0 for boxes without area."""
    low = torch.maximum(first[:, None, :2], second[:, :2])
    high = torch.minimum(first[:, None, 2:], second[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def _beats(boxes_px: Tensor, iou: float) -> Tensor:  # (D, D) bool
    """Entry (i, j): box i, better than box j, overlaps it too much."""
    blocks = [pairwise_iou(rows, boxes_px) > iou for rows in boxes_px.split(ROWS_AT_ONCE)]
    return torch.cat(blocks).triu(1)


@torch.no_grad()
def suppress_in_bev(
    footprints: Tensor,  # (B, D, 5) x, y, length, width in metres, yaw in radians; best first
    labels: Tensor,  # (B, D) int64
    *,
    valid: Tensor,  # (B, D) bool, boxes that take part
    iou: float,
) -> Tensor:  # (B, D) bool
    """Which of the valid boxes no better one that is left overlaps by more than ``iou``.

    Overlap is that of the turned rectangles; it is worked out only for pairs of one class whose
    circumscribed circles meet.
    """
    sizes = expect_shape("footprints", footprints, ("B", "D", 5))
    expect_shape("labels", labels, ("B", "D"), sizes)
    expect_shape("valid", valid, ("B", "D"), sizes)
    beats = _may_meet(footprints) & (labels[:, :, None] == labels[:, None]) & valid[:, :, None]
    beats = (beats & valid[:, None]).triu(1)
    sample, better, worse = beats.nonzero(as_tuple=True)
    overlap = bev_iou(footprints[sample, better], footprints[sample, worse])
    beats[sample, better, worse] = overlap > iou
    return survivors(beats) & valid


def _may_meet(footprints: Tensor) -> Tensor:  # (B, D, D) bool
    places = footprints[..., :2]
    apart = (places[:, :, None] - places[:, None]).square().sum(-1)
    radius = torch.linalg.vector_norm(footprints[..., 2:4], dim=-1) / 2
    return apart <= (radius[:, :, None] + radius[:, None]).square()
