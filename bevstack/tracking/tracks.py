"""What is known of the objects about a vehicle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bevstack.shapes import expect_shape
from bevstack.types import Boxes3D, Detections


@dataclass(frozen=True)
class Tracks:
    """M objects at one moment, surest first, in a frame that does not move: the world's.

    Those with a box in the newest frame and those that are only expected to be there. Boxes are
    float64, as the world is large.
    """

    identity: Tensor  # (M,) int64, an object's own until the tracks begin anew
    state: Tensor  # (M, 4) float64 x, y, vx, vy of the centre: metres and metres per second
    covariance: Tensor  # (M, 4, 4) float64 of the state
    elevation_m: Tensor  # (M,) float64, z of the centre
    size: Tensor  # (M, 3) float64 metres, (length, width, height)
    yaw: Tensor  # (M,) float64 radians, counter-clockwise about z
    scores: Tensor  # (M,) float64, 0 to 1
    labels: Tensor  # (M,) int64, index into the configuration's class names
    seen_us: Tensor  # (M,) int64, when it last had a box

    def __post_init__(self) -> None:
        count = len(self.identity)
        for name, axes in _AXES.items():
            expect_shape(name, getattr(self, name), (count, *axes))

    def __len__(self) -> int:
        return len(self.identity)

    def __getitem__(self, index: Tensor | slice) -> Tracks:
        return Tracks(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def empty() -> Tracks:
        """No objects."""
        whole = {"identity", "labels", "seen_us"}
        return Tracks(
            **{
                name: torch.zeros(0, *axes, dtype=torch.int64 if name in whole else torch.float64)
                for name, axes in _AXES.items()
            }
        )

    @staticmethod
    def concatenate(parts: Sequence[Tracks]) -> Tracks:
        """Objects of several sets in one."""
        return Tracks(
            *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Tracks))
        )

    def detections(self) -> Detections:
        """The objects as boxes of float64 in the frame of the tracks, in their order."""
        boxes = Boxes3D(
            center=torch.cat((self.state[:, :2], self.elevation_m[:, None]), 1),
            size=self.size,
            yaw=self.yaw,
            velocity=self.state[:, 2:],
        )
        return Detections(boxes, self.scores, self.labels)


@dataclass(frozen=True)
class TrackedScene:
    """A stream's tracks after a frame: what goes into the next frame's update."""

    tracks: Tracks
    timestamp_us: int  # of the frame
    num_objects: int = 0  # so many identities were given, from 0 up


_AXES: dict[str, tuple[int, ...]] = {
    "identity": (),
    "state": (4,),
    "covariance": (4, 4),
    "elevation_m": (),
    "size": (3,),
    "yaw": (),
    "scores": (),
    "labels": (),
    "seen_us": (),
}
