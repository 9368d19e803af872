"""Unit of times: nothing in a number tells it, so it is judged by its consequences.

These are the time between the frames of a drive, the vehicle's speed between them, and the
agreement of a frame's own times. A unit is named only if the times are implausible as microseconds
and plausible in that unit, so a parked vehicle, a long gap or a jump of the pose is none.

Letters: F frames of one drive in order of time.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

REMEDIES = MappingProxyType(
    {
        "milliseconds": "multiply the times by 1000",
        "seconds": "multiply the times by 1000000",
        "nanoseconds": "divide the times by 1000",
    }
)
# Microseconds since 1970 reach this in the year 5138, nanoseconds did in 1973.
NANOSECONDS_FROM = 10**17

_UNITS_US = MappingProxyType({"milliseconds": 1e3, "seconds": 1e6, "nanoseconds": 1e-3})
_EPOCH_US = range(10**14, NANOSECONDS_FROM)  # microseconds since 1970, years 1973 to 5138
# Time between neighbouring frames: no camera takes 500 a second, no drive has hours between them.
_MIN_SPACING_S, _MAX_SPACING_S = 2e-3, 3600.0
_USUAL_SPACING_S = (4e-3, 20.0)
_MAX_SPEED_MPS = 100.0
_MIN_STEPS = 3  # one jump of the pose, or one gap, does not decide a median of three
# Between frames that seem 20 s apart or more, the pose of a parked vehicle moves less than this, or
# to and fro: the ends of its path are then close together, compared with the length of the path.
_MIN_STEP_M, _MIN_DRIVE_MPS, _MIN_STRAIGHTNESS = 0.2, 1.0, 0.3
_SAME_MOMENT_US = 60e6  # the times of one frame agree within a minute


def wrong_unit(
    times_us: NDArray[np.int64],  # (F,) ascending
    positions_m: NDArray[np.float64],  # (F, 2 or 3) of the vehicle, NaN if unknown
) -> str | None:
    """Return the unit of the times of one drive if it is not microseconds, else None."""
    if len(times_us) and times_us[-1] >= NANOSECONDS_FROM:
        return "nanoseconds"
    elapsed = np.diff(times_us).astype(np.float64)
    if not elapsed.any():  # one frame, or no times
        return None
    moved = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    spacing = float(np.median(elapsed))
    regular = elapsed <= 10 * max(spacing, 1.0)  # without gaps
    # Seconds are so coarse that several frames share one.
    spacing = float(elapsed[regular].mean())
    known = np.isfinite(moved) & regular
    speeds = 1e6 * moved[known] / np.maximum(elapsed[known], 1.0)
    speed = float(np.median(speeds)) if len(speeds) >= _MIN_STEPS else 0.0
    candidates: tuple[str, ...]
    if spacing < 1e6 * _MIN_SPACING_S or speed > _MAX_SPEED_MPS:
        candidates = ("milliseconds", "seconds")
    elif _is_slow(spacing, speed, moved[known], positions_m):
        candidates = ("nanoseconds",)
    else:
        return None
    for unit in candidates:
        factor = _UNITS_US[unit]
        shortest, longest = _USUAL_SPACING_S
        if shortest <= 1e-6 * spacing * factor <= longest and speed / factor <= _MAX_SPEED_MPS:
            return unit
    return None


def _is_slow(
    spacing_us: float,
    speed_mps: float,  # 0 with too few steps
    moved_m: NDArray[np.float64],
    positions_m: NDArray[np.float64],
) -> bool:
    """Return True if the vehicle drives steadily, but too slowly, or for hours between frames."""
    if len(moved_m) < _MIN_STEPS or spacing_us < 1e6 * _USUAL_SPACING_S[1]:
        return False
    if spacing_us > 1e6 * _MAX_SPACING_S:
        return True
    ends = float(np.linalg.norm(positions_m[-1] - positions_m[0]))
    is_straight = ends > _MIN_STRAIGHTNESS * float(moved_m.sum())
    is_driving = float(np.median(moved_m)) > _MIN_STEP_M and is_straight
    return is_driving and _MIN_DRIVE_MPS < 1e3 * speed_mps < _MAX_SPEED_MPS


def differing_unit(time_us: int, reference_us: int) -> str | None:
    """Return the unit of one of two times of one moment if the other is microseconds since 1970.

    None if their units agree, or if neither counts from 1970.
    """
    for wrong, right in ((time_us, reference_us), (reference_us, time_us)):
        for unit, factor in _UNITS_US.items():
            if right in _EPOCH_US and abs(wrong * factor - right) < _SAME_MOMENT_US:
                return unit
    return None


def implied_motion(
    times_us: NDArray[np.int64],  # (F,)
    positions_m: NDArray[np.float64],  # (F, 2 or 3)
) -> str:
    """Describe times as microseconds: the typical spacing, and the speed where poses are known."""
    elapsed_s = 1e-6 * np.diff(times_us)
    moved = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    known = np.isfinite(moved) & (elapsed_s > 0)
    text = f"{float(np.median(elapsed_s)):.3g} s between frames"
    if not known.any():
        return text
    return f"{text} and {float(np.median(moved[known] / elapsed_s[known])):.3g} m/s"
