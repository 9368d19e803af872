"""Moments of a drive: times and poses without images, whose unit of time can be judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from bevstack.times import REMEDIES, implied_motion, wrong_unit


class _Placed(Protocol):
    """Fields of a frame that a moment keeps."""

    @property
    def timestamp_us(self) -> int: ...
    @property
    def world_from_ego(self) -> Tensor | None: ...
    @property
    def sample_token(self) -> str: ...
    @property
    def scene_token(self) -> str: ...


class Moment(NamedTuple):
    """Time and pose of a frame."""

    timestamp_us: int
    world_from_ego: Tensor | None  # (4, 4)
    sample_token: str
    scene_token: str

    @classmethod
    def from_frame(cls, frame: _Placed) -> Moment:
        """Return the moment of a frame."""
        return cls(frame.timestamp_us, frame.world_from_ego, frame.sample_token, frame.scene_token)


def check_unit(moments: Sequence[Moment]) -> None:
    """Check that the times of successive moments of one drive are in microseconds.

    Moments without a time, or out of order, are not judged.

    Raises:
        ValueError: as microseconds, the frames would be too close or the vehicle too fast or too
            slow, while another unit gives a plausible drive.
    """
    times_us = np.array([moment.timestamp_us for moment in moments], dtype=np.int64)
    if not times_us.all() or (np.diff(times_us) < 0).any():
        return
    unknown = torch.full((3,), torch.nan, dtype=torch.float64)
    poses = [moment.world_from_ego for moment in moments]
    places = [unknown if pose is None else pose[:3, 3] for pose in poses]
    positions_m = torch.stack(places).numpy()
    unit = wrong_unit(times_us, positions_m)
    if unit is not None:
        raise ValueError(
            f"timestamp_us must be in microseconds; got {unit} up to frame "
            f"{moments[-1].sample_token!r}, which as microseconds would mean "
            f"{implied_motion(times_us, positions_m)}: {REMEDIES[unit]}"
        )
