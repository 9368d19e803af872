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
    """Boxes that stand upright in a frame whose z axis points up; leading axes are free."""

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
        """Selects along the first axis."""
        return Boxes3D(self.center[index], self.size[index], self.yaw[index], self.velocity[index])

    @staticmethod
    def empty(dtype: torch.dtype = torch.float32) -> Boxes3D:
        """No boxes."""
        return Boxes3D(
            torch.zeros(0, 3, dtype=dtype),
            torch.zeros(0, 3, dtype=dtype),
            torch.zeros(0, dtype=dtype),
            torch.zeros(0, 2, dtype=dtype),
        )

    @staticmethod
    def concatenate(boxes: Sequence[Boxes3D]) -> Boxes3D:
        """Boxes of several sets in one, along the first axis."""
        if not boxes:
            return Boxes3D.empty()
        return Boxes3D(
            torch.cat([b.center for b in boxes]),
            torch.cat([b.size for b in boxes]),
            torch.cat([b.yaw for b in boxes]),
            torch.cat([b.velocity for b in boxes]),
        )

    def corners(self) -> Tensor:  # (..., 8, 3) metres
        """Corners in the order drawn above ``CORNER_SIGNS``."""
        offsets = 0.5 * self.size[..., None, :] * self.size.new_tensor(CORNER_SIGNS)
        cos, sin = torch.cos(self.yaw)[..., None], torch.sin(self.yaw)[..., None]
        x, y, z = offsets.unbind(-1)
        rotated = torch.stack((cos * x - sin * y, sin * x + cos * y, z), -1)
        return rotated + self.center[..., None, :]

    def transformed(
        self,
        dst_from_src: Tensor,  # (4, 4) rigid
    ) -> Boxes3D:
        """The boxes in another upright frame: centres moved, headings and velocities rotated.

        A tilt between the frames (a lidar is mounted a degree off) moves the centres exactly and
        keeps the boxes upright: heading and velocity are the rotated vectors seen from above.
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
        """The boxes on a device or in a floating dtype."""
        return Boxes3D(
            self.center.to(target),
            self.size.to(target),
            self.yaw.to(target),
            self.velocity.to(target),
        )


def wrap_angle(angle: Tensor) -> Tensor:
    """An angle in radians brought to [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def blend_yaw(
    yaw: Tensor,  # (...) radians
    other: Tensor,  # (...)
    share: Tensor | float,  # 0 to 1, of the other
    other_wins: Tensor,  # (...) bool, where the two have no mean
) -> Tensor:  # (...) in [-pi, pi)
    """A heading between two; those more than a right angle apart have no mean: one has its way."""
    turn = wrap_angle(other - yaw)
    opposed = turn.abs() > math.pi / 2
    return wrap_angle(yaw + turn * torch.where(opposed, other_wins.to(turn.dtype), share))


__all__ = ["CORNER_SIGNS", "Boxes3D", "blend_yaw", "wrap_angle"]
