"""Upright 3D boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bevstack.geometry import transform_points
from bevstack.shapes import expect_shape

# Signs of the eight corners along (x, y, z); bottom face first, counter-clockwise from the front
# left, then the top face in the same order:
#
#        5--------4        x forward (the box's heading), y left, z up
#       /|       /|        0, 3, 7, 4 is the front face
#      6--------7 |        0, 1, 2, 3 the bottom face
#      | 1------|-0
#      |/       |/
#      2--------3
CORNER_SIGNS = (
    (1, 1, -1),
    (-1, 1, -1),
    (-1, -1, -1),
    (1, -1, -1),
    (1, 1, 1),
    (-1, 1, 1),
    (-1, -1, 1),
    (1, -1, 1),
)


@dataclass(frozen=True)
class Boxes3D:
    """Upright boxes in a frame whose z axis points up; leading axes are free.

    Raises:
        ValueError: shapes that do not agree.
    """

    center: Tensor  # (..., 3) metres, centre of gravity
    size: Tensor  # (..., 3) metres, (length, width, height)
    yaw: Tensor  # (...,) radians, counter-clockwise about z, 0 along x
    velocity: Tensor  # (..., 2) metres per second along (x, y), NaN where unknown

    def __post_init__(self) -> None:
        expect_shape("center", self.center, ("...", 3))
        leading = tuple(self.center.shape[:-1])
        expect_shape("size", self.size, (*leading, 3))
        expect_shape("yaw", self.yaw, leading)
        expect_shape("velocity", self.velocity, (*leading, 2))

    def __len__(self) -> int:
        return int(self.center.shape[0])

    def __getitem__(self, index: Tensor | slice | int) -> Boxes3D:
        """Select along the first axis."""
        return Boxes3D(self.center[index], self.size[index], self.yaw[index], self.velocity[index])

    @staticmethod
    def empty(dtype: torch.dtype = torch.float32) -> Boxes3D:
        """Return a set without boxes."""
        return Boxes3D(
            torch.zeros(0, 3, dtype=dtype),
            torch.zeros(0, 3, dtype=dtype),
            torch.zeros(0, dtype=dtype),
            torch.zeros(0, 2, dtype=dtype),
        )

    @staticmethod
    def concatenate(boxes: Sequence[Boxes3D]) -> Boxes3D:
        """Concatenate sets of boxes along the first axis."""
        if not boxes:
            return Boxes3D.empty()
        return Boxes3D(
            torch.cat([b.center for b in boxes]),
            torch.cat([b.size for b in boxes]),
            torch.cat([b.yaw for b in boxes]),
            torch.cat([b.velocity for b in boxes]),
        )

    def corners(self) -> Tensor:  # (..., 8, 3) metres
        """Return the corners in the order drawn above ``CORNER_SIGNS``."""
        offsets = 0.5 * self.size[..., None, :] * self.size.new_tensor(CORNER_SIGNS)
        cos, sin = torch.cos(self.yaw)[..., None], torch.sin(self.yaw)[..., None]
        x, y, z = offsets.unbind(-1)
        rotated = torch.stack((cos * x - sin * y, sin * x + cos * y, z), -1)
        return rotated + self.center[..., None, :]

    def transformed(
        self,
        dst_from_src: Tensor,  # (4, 4) rigid
    ) -> Boxes3D:
        """Return the boxes in another upright frame.

        The frames may be tilted against each other, for example if a lidar is mounted a degree off.
        Centres are transformed exactly. The boxes stay upright: heading and velocity are the
        rotated vectors seen from above.

        Raises:
            ValueError: ``dst_from_src`` is not (4, 4).
        """
        expect_shape("dst_from_src", dst_from_src, (4, 4))
        motion = dst_from_src.to(torch.float64)
        center = transform_points(motion, self.center.to(torch.float64).reshape(-1, 3))
        heading = torch.stack((torch.cos(self.yaw), torch.sin(self.yaw)), -1).to(torch.float64)
        rotation = motion[:2, :2]
        heading = heading @ rotation.T
        return Boxes3D(
            center.reshape(self.center.shape).to(self.center.dtype),
            self.size,
            torch.atan2(heading[..., 1], heading[..., 0]).to(self.yaw.dtype),
            (self.velocity.to(torch.float64) @ rotation.T).to(self.velocity.dtype),
        )

    def to(self, target: torch.device | torch.dtype | str) -> Boxes3D:
        """Return the boxes on a device or in a floating dtype."""
        return Boxes3D(
            self.center.to(target),
            self.size.to(target),
            self.yaw.to(target),
            self.velocity.to(target),
        )


def wrap_angle(angle: Tensor) -> Tensor:
    """Wrap an angle in radians to [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def blend_yaw(
    yaw: Tensor,  # (...) radians
    other: Tensor,  # (...)
    weight: Tensor | float,  # 0 to 1, of ``other``
    prefer_other: Tensor,  # (...) bool, selects one of two opposed headings
) -> Tensor:  # (...) in [-pi, pi)
    """Blend two headings; of two more than a right angle apart, return one of them unchanged."""
    turn = wrap_angle(other - yaw)
    opposed = turn.abs() > math.pi / 2
    return wrap_angle(yaw + turn * torch.where(opposed, prefer_other.to(turn.dtype), weight))


__all__ = ["CORNER_SIGNS", "Boxes3D", "blend_yaw", "wrap_angle"]
