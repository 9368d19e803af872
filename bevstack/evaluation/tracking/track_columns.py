"""Tracked boxes as columns: the input of the tracking metric.

A frame is a sample; frames are numbered scene by scene in order of time. Boxes are sorted by frame.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Samples that are scored, scene by scene in order of time."""

    scene: NDArray[np.int32]  # (F,) ascending
    timestamp_us: NDArray[np.int64]  # (F,) ascending within a scene

    def __len__(self) -> int:
        return len(self.scene)


@dataclass(frozen=True, kw_only=True)
class TrackColumns:
    """True or predicted boxes, sorted by frame; within a frame in the order of their list."""

    frame: NDArray[np.int64]  # (M,) ascending
    track: NDArray[np.int64]  # (M,) number of the object or track; no two scenes share a number
    label: NDArray[np.int8]  # (M,) index into DETECTION_CLASSES
    center: NDArray[np.float64]  # (M, 2) metres along the world's (x, y)
    score: NDArray[np.float64]  # (M,) confidence

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> TrackColumns:
        """Return the boxes of the given rows."""
        return TrackColumns(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def starts(self, num_frames: int) -> NDArray[np.int64]:  # (num_frames + 1,)
        """Return the first row of each frame; the last entry is the number of boxes."""
        counts = np.bincount(self.frame, minlength=num_frames)
        return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
