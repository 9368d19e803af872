"""Times in microseconds: their kind, and the ages of a frame's cameras."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np

from bevstack.types.time_unit import NANOSECONDS_FROM, REMEDIES, differing_unit

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
