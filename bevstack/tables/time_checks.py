"""Checks of the times of samples and key frames: their unit, and the ages of cameras.

Letters: S samples, D key frames.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.reader import Tables
from bevstack.times import (
    REMEDIES,
    StaleCameraWarning,
    describe_age,
    differing_unit,
    implied_motion,
    wrong_unit,
)

_SUSPICIOUS_US = 60e6  # between a key frame and its sample


def check_time_unit(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows, of whole scenes
) -> None:
    """Check that the times of the samples' scenes are microseconds.

    Judged by the spacing of the samples and the vehicle's speed between them, and by the times of
    their key frames (`bevstack.times`).

    Raises:
        ValueError: they are milliseconds, seconds or nanoseconds; the message names the table, and
            the scene or the row.
    """
    for scene in np.unique(tables.samples.scene[samples]):
        rows = tables.samples_of_scene(int(scene))
        times_us = tables.samples.timestamp_us[rows]
        positions_m = tables.keyframes.translation[tables.reference_keyframes(rows)]
        unit = wrong_unit(times_us, positions_m)
        if unit is not None:
            raise ValueError(
                f"timestamp in sample.json must be in microseconds; got {unit} in scene "
                f"{str(tables.scenes.name[scene])!r}, which as microseconds would mean "
                f"{implied_motion(times_us, positions_m)}: {REMEDIES[unit]}"
            )
    rows = _camera_rows(tables, samples)
    own_times, sample_times = _times_us(tables, rows)
    for index in np.flatnonzero(np.abs(own_times - sample_times) > _SUSPICIOUS_US):
        own, reference = int(own_times[index]), int(sample_times[index])
        unit = differing_unit(own, reference)
        if unit is not None:
            raise ValueError(
                f"timestamp of {str(tables.keyframes.token[rows[index]])!r} in sample_data.json "
                f"and of its sample in sample.json must both be in microseconds; got {own} and "
                f"{reference}, one of them in {unit}: {REMEDIES[unit]}"
            )


def check_camera_ages(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows
    limit_s: float,
) -> None:
    """Warn of cameras whose images are too old, and check that every sample has a current one.

    Raises:
        ValueError: all cameras of a sample are beyond the limit.
    """
    rows = _camera_rows(tables, samples)
    ages_s, stale = _ages_s(tables, rows), is_stale(tables, rows, limit_s)
    if not stale.any():
        return
    sample = tables.keyframes.sample[rows]
    blind = np.setdiff1d(sample[stale], sample[~stale])
    if len(blind):
        age = describe_age(float(ages_s[sample == blind[0]][0]))
        raise ValueError(
            f"every sample must have a camera within {limit_s:g} s of its own time; got none for "
            f"{str(tables.samples.token[blind[0]])!r}, whose first camera is {age}, and "
            f"{len(blind) - 1} more samples: correct timestamp in sample_data.json"
        )
    channels = tables.calibrated_sensors.channel[tables.keyframes.sensor[rows]]
    for channel in np.unique(channels[stale]):
        found = np.flatnonzero(stale & (channels == channel))
        token = str(tables.samples.token[sample[found[0]]])
        warnings.warn(
            f"{channel} counts as lost in {len(found)} of {len(samples)} samples, such as "
            f"{token!r}: its image is {describe_age(float(ages_s[found[0]]))} "
            f"(limit {limit_s:g} s)",
            StaleCameraWarning,
            stacklevel=4,  # the caller of the data set's constructor
        )


def is_stale(
    tables: Tables,
    rows: NDArray[np.int64],  # (n,) rows of Tables.keyframes
    limit_s: float,
) -> NDArray[np.bool_]:  # (n,)
    """Return True for each key frame that is farther in time from its sample than the limit."""
    stale: NDArray[np.bool_] = np.abs(_ages_s(tables, rows)) > limit_s
    return stale


def _ages_s(
    tables: Tables,
    rows: NDArray[np.int64],  # (n,) rows of Tables.keyframes
) -> NDArray[np.float64]:  # (n,)
    own_times, sample_times = _times_us(tables, rows)
    ages_s: NDArray[np.float64] = 1e-6 * (sample_times - own_times)
    return ages_s


def _camera_rows(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows
) -> NDArray[np.int64]:  # (n,) rows of Tables.keyframes
    """Return the key frames of the samples' cameras, in file order."""
    keyframes = tables.keyframes
    wanted = np.zeros(len(tables.samples.token), dtype=np.bool_)
    wanted[samples] = True
    is_camera = tables.calibrated_sensors.is_camera[keyframes.sensor]
    return np.flatnonzero(wanted[keyframes.sample] & is_camera)


def _times_us(
    tables: Tables,
    rows: NDArray[np.int64],  # (n,) rows of Tables.keyframes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the times of key frames and of their samples."""
    keyframes = tables.keyframes
    return keyframes.timestamp_us[rows], tables.samples.timestamp_us[keyframes.sample[rows]]
