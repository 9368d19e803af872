"""Overlap of upright boxes seen from above."""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.shapes import expect_shape

ROUNDING_STEPS = 16  # overlaps below this many float steps of the summed areas count as none


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
    along_x, along_y = cos * half_length, sin * half_length
    across_x, across_y = sin * half_width, cos * half_width
    x = _sides(center_x, along_x, across_x)
    y = _sides(center_y, along_y, -across_y)
    # All four sides at once: a GPU takes one launch for each operator in place of four.
    half_second = second[..., 2:4, None] / 2  # (..., 2, 1)
    areas = _area_under(x, y, half_second[..., 0, :], half_second[..., 1, :])
    area = torch.zeros_like(turn)
    for side in areas.unbind(-1):  # counter-clockwise, upper sides run towards smaller x
        area = area - side
    return area.clamp(min=0)


def _sides(
    center: Tensor,  # (...)
    along: Tensor,  # (...) half the length along this axis
    across: Tensor,  # (...) half the width, to be subtracted
) -> Tensor:  # (..., 5)
    """Return a coordinate of the corners, counter-clockwise, the first one once more at the end."""
    ahead, behind = center + along, center - along
    first, second = ahead - across, behind - across
    return torch.stack((first, second, behind + across, ahead + across, first), -1)


def _area_under(
    x: Tensor,  # (..., 5)
    y: Tensor,  # (..., 5)
    half_length: Tensor,  # (..., 1)
    half_width: Tensor,  # (..., 1)
) -> Tensor:  # (..., 4)
    """Return the integral of each side's y, clamped to +-half_width, over x in +-half_length."""
    x0, x1, y0, y1 = x[..., :-1], x[..., 1:], y[..., :-1], y[..., 1:]
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
