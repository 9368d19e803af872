"""Tracks of the objects around a vehicle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bevstack.shapes import expect_shape
from bevstack.types import Boxes3D, Detections
from bevstack.types.uncertainty import BoxUncertainty


@dataclass(frozen=True)
class Tracks:
    """States of M objects at one moment, highest score first, in a static frame (the world).

    Some have a box in the newest frame; for the remaining ones the state is predicted. Values are
    float64, as world coordinates are large.
    """

    identity: Tensor  # (M,) int64, unique to an object until tracking restarts
    state: Tensor  # (M, 4) float64 x, y, vx, vy of the centre: metres and metres per second
    covariance: Tensor  # (M, 4, 4) float64 of the state
    elevation_m: Tensor  # (M,) float64, z of the centre
    size: Tensor  # (M, 3) float64 metres, (length, width, height)
    yaw: Tensor  # (M,) float64 radians, counter-clockwise about z
    scores: Tensor  # (M,) float64, 0 to 1
    labels: Tensor  # (M,) int64, index into the configuration's class names
    last_seen_us: Tensor  # (M,) int64, time of the object's last box
    # Calibrated, in the frame of the tracks; None: unknown. The tracker itself uses ``covariance``.
    uncertainty: BoxUncertainty | None = None

    def __post_init__(self) -> None:
        count = len(self.identity)
        for name, axes in _AXES.items():
            expect_shape(name, getattr(self, name), (count, *axes))
        if self.uncertainty is not None:
            expect_shape("uncertainty.state", self.uncertainty.state, (count, 4, 4))

    def __len__(self) -> int:
        return len(self.identity)

    def __getitem__(self, index: Tensor | slice) -> Tracks:
        columns: dict[str, Any] = {name: getattr(self, name)[index] for name in _AXES}
        known = None if self.uncertainty is None else self.uncertainty[index]
        return Tracks(**columns, uncertainty=known)

    @staticmethod
    def empty() -> Tracks:
        """Return tracks of no objects."""
        integers = {"identity", "labels", "last_seen_us"}
        columns: dict[str, Any] = {
            name: torch.zeros(0, *axes, dtype=torch.int64 if name in integers else torch.float64)
            for name, axes in _AXES.items()
        }
        return Tracks(**columns)

    @staticmethod
    def concatenate(parts: Sequence[Tracks]) -> Tracks:
        """Concatenate several sets of tracks."""
        columns: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts]) for name in _AXES
        }
        known = BoxUncertainty.concatenate([part.uncertainty for part in parts])
        return Tracks(**columns, uncertainty=known)

    def detections(self) -> Detections:
        """Return the objects as float64 boxes in the frame of the tracks, in their order."""
        boxes = Boxes3D(
            center=torch.cat((self.state[:, :2], self.elevation_m[:, None]), 1),
            size=self.size,
            yaw=self.yaw,
            velocity=self.state[:, 2:],
        )
        return Detections(boxes, self.scores, self.labels, uncertainty=self.uncertainty)


@dataclass(frozen=True)
class TrackedScene:
    """Tracks of a stream after a frame: the input of the next frame's update."""

    tracks: Tracks
    timestamp_us: int  # time of the frame
    num_objects: int = 0  # number of identities given, counted from 0


_AXES: dict[str, tuple[int, ...]] = {
    "identity": (),
    "state": (4,),
    "covariance": (4, 4),
    "elevation_m": (),
    "size": (3,),
    "yaw": (),
    "scores": (),
    "labels": (),
    "last_seen_us": (),
}
