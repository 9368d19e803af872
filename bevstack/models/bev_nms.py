"""Non-maximum suppression of boxes seen from above, within each class.

Letters: B batch, D boxes a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.geometry import bev_iou
from bevstack.models.layers.nms import survivors
from bevstack.shapes import expect_shape


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
