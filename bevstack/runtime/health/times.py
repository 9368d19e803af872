"""States of cameras that follow from times and sizes alone, without a look at the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.types import Frame
from bevstack.types.health import CameraState


@dataclass(frozen=True)
class Arrival:
    """Newest time of a camera's pictures, and the size that belongs to its calibration."""

    newest_us: int = 0  # 0: none yet, or unknown
    size: tuple[int, int] | None = None  # (H, W) pixels
    intrinsics: NDArray[np.float64] | None = None  # (3, 3) for which the size holds


def judge_arrival(
    frame: Frame,
    camera: int,  # index
    last: Arrival,
    max_age_ms: float,
) -> tuple[CameraState, Arrival]:
    """Return the state of one camera's picture by its time and size, and what to remember of it.

    A picture of another size than the ones before it is rejected, unless the calibration changed
    with it, or the principal point lies nearer to the middle of the new size: then the earlier
    pictures were wrong.
    """
    assert frame.camera_mask is not None  # Frame sets it
    label, image = frame.camera_labels()[camera], frame.images[camera]
    if label in frame.rejected_cameras:
        return CameraState.REJECTED, last
    age_s = frame.camera_ages_s()[camera]
    if image is not None and abs(age_s) > frame.max_camera_age_s:
        return CameraState.STALE, last
    if image is None or not bool(frame.camera_mask[camera]):
        return CameraState.MISSING, last
    height, width = image.shape[:2]
    size, intrinsics = (height, width), frame.intrinsics[camera].numpy()
    if last.size not in (None, size) and _keeps_size(last, size, intrinsics):
        return CameraState.REJECTED, last
    time_us = frame.camera_timestamp_us[camera] if frame.camera_timestamp_us else 0
    now = Arrival(max(time_us, last.newest_us), size, intrinsics)
    if time_us and time_us < last.newest_us:
        return CameraState.OUT_OF_ORDER, now
    if 1e3 * age_s > max_age_ms:
        return CameraState.LATE, now
    if time_us and time_us == last.newest_us:
        return CameraState.DUPLICATE, now
    return CameraState.OK, now


def _keeps_size(last: Arrival, size: tuple[int, int], intrinsics: NDArray[np.float64]) -> bool:
    """Return True if the size of the earlier pictures fits an unchanged calibration better."""
    assert last.size is not None  # the caller compares them
    if last.intrinsics is None or not np.array_equal(last.intrinsics, intrinsics):
        return False
    return _off_center(size, intrinsics) >= _off_center(last.size, intrinsics)


def _off_center(size: tuple[int, int], intrinsics: NDArray[np.float64]) -> float:
    """Return the greatest distance of the principal point from the middle, in parts of a side."""
    parts = intrinsics[:2, 2] / (size[1], size[0])
    return float(abs(parts - 0.5).max())
