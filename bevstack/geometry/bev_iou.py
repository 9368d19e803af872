"""Overlap of upright boxes seen from above."""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.shapes import expect_shape

ROUNDING_STEPS = 16  # overlaps below this many float steps of the summed areas count as none
# Corners of a rectangle, counter-clockwise, in halves of (length, width).
_CORNERS = ((1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0))


def bev_iou(
    first: Tensor,  # (..., 5) x, y, length, width in metres, yaw in radians
    second: Tensor,  # (..., 5)
) -> Tensor:  # (...)
    """Return the exact intersection over union of rotated rectangles; 0 for those without area.

    Leading axes broadcast: ``bev_iou(boxes[:, None], boxes)`` compares all pairs. Sizes must not be
    negative. The result has the dtype of the boxes. Boxes that do not overlap have exactly 0.

    Raises:
        ValueError: the last axis of ``first`` or ``second`` is not 5.
    """
    expect_shape("first", first, ("...", 5))
    expect_shape("second", second, ("...", 5))
    shared = _shared_area(first, second)
    areas = first[..., 2] * first[..., 3] + second[..., 2] * second[..., 3]
    limits = torch.finfo(areas.dtype)
    # The side integrals of disjoint boxes cancel only up to rounding.
    shared = shared.masked_fill(~(shared > ROUNDING_STEPS * limits.eps * areas), 0.0)
    return shared / (areas - shared).clamp(min=limits.tiny)


def _shared_area(
    first: Tensor,  # (..., 5)
    second: Tensor,  # (..., 5)
) -> Tensor:  # (...)
    """Return the area of the first rectangle within the second.

    In the second rectangle's axes, the first extends from its lower to its upper sides. Both are
    clamped to the second's width, and the area between them is integrated one side at a time. This
    needs no list of intersection corners and no special case for sides that touch.
    """
    cos, sin = second[..., 4].cos(), second[..., 4].sin()
    offset = first[..., :2] - second[..., :2]
    center_x = cos * offset[..., 0] + sin * offset[..., 1]
    center_y = cos * offset[..., 1] - sin * offset[..., 0]
    turn = first[..., 4] - second[..., 4]
    cos, sin = turn.cos(), turn.sin()
    half_length, half_width = first[..., 2] / 2, first[..., 3] / 2
    corners = [
        (
            center_x + a * cos * half_length - b * sin * half_width,
            center_y + a * sin * half_length + b * cos * half_width,
        )
        for a, b in _CORNERS
    ]
    area = torch.zeros_like(turn)
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        # Counter-clockwise, upper sides run towards smaller x.
        area = area - _area_under(start, end, second[..., 2] / 2, second[..., 3] / 2)
    return area.clamp(min=0)


def _area_under(
    start: tuple[Tensor, Tensor],
    end: tuple[Tensor, Tensor],
    half_length: Tensor,
    half_width: Tensor,
) -> Tensor:
    """Return the integral of a side's y, clamped to +-half_width, over x in +-half_length."""
    (x0, y0), (x1, y1) = start, end
    run = x1 - x0
    from_x, to_x = (torch.clamp(x, -half_length, half_length) for x in (x0, x1))
    # A side along y has run 0. Its slope has no effect, because it is multiplied by 0 below.
    slope = 1 / torch.where(run == 0, torch.ones_like(run), run)
    from_y = y0 + ((from_x - x0) * slope).clamp(0, 1) * (y1 - y0)
    to_y = y0 + ((to_x - x0) * slope).clamp(0, 1) * (y1 - y0)
    low, high = torch.minimum(from_y, to_y), torch.maximum(from_y, to_y)
    rise = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    below = ((-half_width - low) / rise).clamp(0, 1)  # fraction of the side
    above = ((high - half_width) / rise).clamp(0, 1)
    middle = (
        torch.clamp(low, -half_width, half_width) + torch.clamp(high, -half_width, half_width)
    ) / 2
    mean = half_width * (above - below) + (1 - above - below) * middle
    return (to_x - from_x) * mean
