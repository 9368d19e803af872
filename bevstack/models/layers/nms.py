"""Non-maximum suppression within each class, of boxes in the image and of boxes seen from above.

Letters: I images, B batch, D boxes an image or a sample, K candidates an image, R rows returned for
an image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.geometry import bev_iou
from bevstack.models.layers.sizes import Sizes
from bevstack.shapes import expect_shape

PAIRS_AT_ONCE = 2**20  # limits the memory of pairwise overlaps


def keep_best(
    boxes_px: Tensor,  # (I, D, 4) (left, top, right, bottom)
    scores: Tensor,  # (I, D) order of suppression and of the result
    ranks: Tensor,  # (I, D) choice of ``count`` boxes if more are left
    *,
    labels: Tensor,  # (I, D) int64
    valid: Tensor,  # (I, D) bool, boxes that take part
    iou: float,
    count: int,
    sizes: Sizes | None = None,
) -> Tensor:  # (I, R) int64
    """Return the indices of the boxes that remain after suppression, best score first.

    A box is suppressed if its overlap with a remaining box of the same class and a higher score
    exceeds ``iou``. Rows are padded with -1; R is the smaller of ``count`` and D. ``sizes`` chooses
    K, which must be at least the number of valid boxes of each image.
    """
    sizes = Sizes() if sizes is None else sizes
    images, total = valid.shape
    rows = min(count, total)
    if not images or not total:
        return torch.full((images, rows), -1, dtype=torch.int64, device=valid.device)
    candidates = min(sizes.choose("candidates", valid.sum(1).max()), total)
    order = _best_first(scores, valid)[:, :candidates]  # (I, K)
    labels, valid, ranks = (x.gather(1, order) for x in (labels, valid, ranks))
    boxes_px = boxes_px.gather(1, order[..., None].expand(-1, -1, 4))
    kept = suppress(boxes_px, labels, valid=valid, iou=iou, sizes=sizes)  # (I, K)
    chosen = _best_first(ranks, kept)[:, :rows].sort(dim=1).values  # best score first
    kept = kept.gather(1, chosen)
    at_front = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    index = order.gather(1, chosen).masked_fill(~kept, -1).gather(1, at_front)
    return functional.pad(index, (0, rows - index.shape[1]), value=-1)


def _best_first(scores: Tensor, valid: Tensor) -> Tensor:  # (I, D) int64
    """Return the order of scores; those that are not valid come last, equal ones keep theirs."""
    return scores.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)


def suppress(
    boxes_px: Tensor,  # (I, K, 4) best first
    labels: Tensor,  # (I, K) int64
    *,
    valid: Tensor,  # (I, K) bool, boxes that take part
    iou: float,
    sizes: Sizes | None = None,
) -> Tensor:  # (I, K) bool
    """Return True for valid boxes that remain after greedy suppression within each class."""
    sizes = Sizes() if sizes is None else sizes
    pairs = _pairs_of_class(labels, valid).triu(1)
    return _keep(boxes_px, pairs, image_iou, iou, sizes) & valid


@torch.no_grad()
def suppress_within(
    boxes_px: Tensor,  # (D, 4) (left, top, right, bottom)
    scores: Tensor,  # (D,)
    groups: Tensor | None,  # (D,) int64, not negative; None: all boxes are of one group
    iou: float,
) -> Tensor:  # (R,) int64
    """Return the indices of the boxes that remain within each group, best score first.

    A box is suppressed if its overlap with a better remaining box of its group exceeds ``iou``. As
    in published detectors, boxes are first shifted by their group times the largest coordinate plus
    one: overlaps are rounded accordingly, which decides exact ties with the threshold.
    """
    order = scores.argsort(descending=True, stable=True)
    if not len(order):
        return order
    if groups is None:
        groups = torch.zeros_like(order)
    shifts = groups.to(boxes_px.dtype) * (boxes_px.max() + 1)
    boxes_px, groups = (boxes_px + shifts[:, None])[order], groups[order]
    kept = torch.zeros_like(groups, dtype=torch.bool)
    for group in torch.unique(groups):
        rows = (groups == group).nonzero()[:, 0]
        boxes = boxes_px[rows][None]  # (1, D', 4)
        over = _overlap_more(boxes, image_iou, iou).triu(1)
        image, better, worse = over.nonzero(as_tuple=True)
        every = torch.ones_like(over[:, 0])
        kept[rows] = _suppress_pairs(every, image, better, worse, Sizes())[0]
    return order[kept]


def _pairs_of_class(labels: Tensor, valid: Tensor) -> Tensor:  # (I, D, D) bool
    """Return True for pairs of valid boxes of one class."""
    labels = labels.to(torch.int32)
    rows, columns = labels.masked_fill(~valid, -1), labels.masked_fill(~valid, -2)
    return rows[:, :, None] == columns[:, None]


def _keep(
    boxes: Tensor,  # (I, D, ...) best first
    pairs: Tensor,  # (I, D, D) bool, (i, j): box i may suppress box j; False for i >= j
    overlap: Callable[[Tensor, Tensor], Tensor],  # of boxes (..., A) and (..., A) to (...)
    iou: float,
    sizes: Sizes,
) -> Tensor:  # (I, D) bool
    """Return True for boxes that remain; a box suppresses those that it overlaps by more than iou.

    Without bounds, overlaps are computed for the given pairs alone, with bounds for all.
    """
    if sizes.bounds is None:
        image, better, worse = pairs.nonzero(as_tuple=True)
        over = overlap(boxes[image, better], boxes[image, worse]) > iou
        rows = image[over], better[over], worse[over]
        return _suppress_pairs(pairs.new_ones(pairs.shape[:-1]), *rows, sizes)
    return _suppress_all(pairs & _overlap_more(boxes, overlap, iou), sizes)


# All boxes are decided at once, given the boxes that the previous round kept, until nothing
# changes. After n rounds the first n decisions equal the greedy ones; in practice a few rounds are
# enough.


def _suppress_pairs(
    kept: Tensor,  # (I, D) bool, all True
    image: Tensor,  # (M,) int64
    better: Tensor,  # (M,) int64
    worse: Tensor,  # (M,) int64, suppressed if the better box is kept
    sizes: Sizes,
) -> Tensor:  # (I, D) bool
    """Return True for boxes that remain after greedy suppression by pairs."""
    for rounds in range(1, kept.shape[-1] + 2):
        active = kept[image, better]
        decided = torch.ones_like(kept)
        decided[image[active], worse[active]] = False
        if torch.equal(decided, kept):
            sizes.note("rounds", torch.full((), rounds, device=kept.device))
            break
        kept = decided
    return kept


def _suppress_all(
    suppresses: Tensor,  # (I, D, D) bool, (i, j): box i suppresses j if kept; False for i >= j
    sizes: Sizes,  # with bounds
) -> Tensor:  # (I, D) bool
    """Return True for boxes that remain after greedy suppression, in a fixed number of rounds."""
    assert sizes.bounds is not None  # the caller checks it
    rounds = sizes.bounds.rounds
    kept = previous = suppresses.new_ones(suppresses.shape[:-1])
    for _ in range(rounds):
        previous, kept = kept, ~(suppresses & kept[..., None]).any(-2)
    unsettled = (previous != kept).any()  # one more round could change something
    sizes.note("rounds", rounds + unsettled.to(torch.int64))
    return kept


def image_iou(
    first: Tensor,  # (..., 4)
    second: Tensor,  # (..., 4)
) -> Tensor:  # (...)
    """Return intersection over union; 0 for boxes without area. Leading axes broadcast."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - intersection
    return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)


def _overlap_more(
    boxes: Tensor, overlap: Callable[[Tensor, Tensor], Tensor], iou: float
) -> Tensor:  # (I, D, D) bool
    """Return True for pairs of boxes of an image that overlap by more than ``iou``."""
    images, count = boxes.shape[:2]
    rows = max(1, PAIRS_AT_ONCE // max(1, images * count))
    blocks = [
        overlap(part[:, :, None], boxes[:, None]) > iou for part in torch.split(boxes, rows, 1)
    ]
    return torch.cat(blocks, 1)


@torch.no_grad()
def suppress_in_bev(
    footprints: Tensor,  # (B, D, 5) x, y, length, width in metres, yaw in radians; best first
    labels: Tensor,  # (B, D) int64
    *,
    valid: Tensor,  # (B, D) bool, boxes that take part
    iou: float,
    sizes: Sizes | None = None,
) -> Tensor:  # (B, D) bool
    """Return True for valid boxes that remain after suppression seen from above.

    A box is suppressed if its overlap with a better remaining box of the same class exceeds
    ``iou``. Overlaps are those of the rotated rectangles. Without bounds they are computed only for
    pairs of one class whose circumscribed circles intersect, and with bounds for all pairs.

    Raises:
        ValueError: shapes that do not agree.
    """
    shape = expect_shape("footprints", footprints, ("B", "D", 5))
    expect_shape("labels", labels, ("B", "D"), shape)
    expect_shape("valid", valid, ("B", "D"), shape)
    sizes = Sizes() if sizes is None else sizes
    pairs = (_circles_meet(footprints) & _pairs_of_class(labels, valid)).triu(1)
    return _keep(footprints, pairs, bev_iou, iou, sizes) & valid


def _circles_meet(footprints: Tensor) -> Tensor:  # (B, D, D) bool
    centers = footprints[..., :2]
    squared_distances = (centers[:, :, None] - centers[:, None]).square().sum(-1)
    radius: Tensor = torch.linalg.vector_norm(footprints[..., 2:4], dim=-1) / 2
    return squared_distances <= (radius[:, :, None] + radius[:, None]).square()
