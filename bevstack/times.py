"""Times in microseconds: their kind, their unit, and the ages of a frame's cameras.

Nothing in a number tells its unit, so it is judged by its consequences: the time between the frames
of a drive, the vehicle's speed between them, and the agreement of a frame's own times. A unit is
named only if the times are implausible as microseconds and plausible in that unit, so a parked
vehicle, a long gap or a jump of the pose is none.

Letters: F frames of one drive in order of time, N cameras.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from types import MappingProxyType
from typing import SupportsIndex

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


# Time between a camera's image and its frame beyond which the camera counts as lost. nuScenes'
# cameras lie within 0.05 s of their sample. The newest image of a free-running camera of 2 Hz, the
# slowest rate of a rig, is at most 0.5 s old; behind an older one another image is missing.
MAX_CAMERA_AGE_S = 0.5


class StaleCameraWarning(UserWarning):
    """Warning of a camera whose image is too old for its frame, so that it counts as lost."""


def whole_microseconds(name: str, value: object) -> int:
    """Return a time as an integer.

    Raises:
        ValueError: the value is not a whole number of 64 bits, or nanoseconds since 1970.
    """
    time: int | None = None
    if isinstance(value, SupportsIndex) and not isinstance(value, (bool, np.bool_)):
        try:
            time = operator.index(value)
        except TypeError:  # a tensor of floats
            time = None
    if time is None or not -(2**63) <= time < 2**63:
        raise ValueError(
            f"{name} must be a whole number of microseconds; got {value!r}: give "
            "round(seconds * 1e6)"
        )
    if time >= NANOSECONDS_FROM:
        raise ValueError(
            f"{name} must be in microseconds; got {time}, which are nanoseconds since 1970: "
            f"{REMEDIES['nanoseconds']}"
        )
    return time


def camera_ages_s(
    timestamp_us: int,  # reference time of a frame; 0: none
    camera_timestamp_us: Sequence[int],  # N, 0 for an unknown time
) -> list[float]:  # N
    """Return the seconds from each camera's image to its frame, negative for a later image.

    Without a reference time, ages count from the newest image. The age is 0 where a time is
    unknown.
    """
    reference = timestamp_us or max(camera_timestamp_us, default=0)
    return [1e-6 * (reference - time) if time else 0.0 for time in camera_timestamp_us]


def check_one_unit(
    timestamp_us: int,
    camera_timestamp_us: Sequence[int],  # N
    names: Sequence[str],  # N
) -> None:
    """Check that the times of a frame and of its cameras have one unit.

    Raises:
        ValueError: one is in milliseconds, seconds or nanoseconds; the message names the camera.
    """
    reference = timestamp_us or max(camera_timestamp_us, default=0)
    for name, time in zip(names, camera_timestamp_us, strict=True):
        unit = differing_unit(time, reference)
        if unit is not None:
            raise ValueError(
                f"the times of a frame and of {name} must both be in microseconds; got {reference} "
                f"and {time}, one of them in {unit}: {REMEDIES[unit]}"
            )


def describe_age(age_s: float) -> str:
    """Describe an age in words, with one digit from 1 s on.

    Few different texts result, and Python shows each warning once: a stream that lost a camera
    warns less and less often.
    """
    size = abs(age_s)
    rounded = f"{size:.2g}" if size < 1 else f"{float(f'{size:.0e}'):g}"
    return f"{rounded} s {'older' if age_s > 0 else 'newer'} than its frame"
