"""Rows of a sample's cameras in the tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.reader import Tables
from bevstack.vocabulary import CAMERA_CHANNELS


def camera_rows(tables: Tables, sample: int) -> NDArray[np.int64]:  # (N,)
    """Return the key-frame rows of a sample's cameras in the order of the camera axis.

    That is nuScenes' order; a camera of an unknown channel comes after them, by name.
    """
    sensors = tables.calibrated_sensors
    rows = tables.keyframes_of(sample)
    rows = rows[sensors.is_camera[tables.keyframes.sensor[rows]]]
    channels = sensors.channel[tables.keyframes.sensor[rows]]
    order = sorted(range(len(rows)), key=lambda i: _camera_order(str(channels[i])))
    cameras: NDArray[np.int64] = rows[order]
    return cameras


def camera_sensors(
    tables: Tables,
    samples: NDArray[np.int64],  # rows
) -> NDArray[np.int32]:
    """Return the rows of the calibrations of the samples' cameras, ascending.

    Raises:
        ValueError: a sample has no camera; names it.
    """
    used = [np.empty(0, dtype=np.int32)]
    for sample in samples:
        cameras = camera_rows(tables, int(sample))
        if not len(cameras):
            raise ValueError(
                "every sample must have the key frame of a camera in sample_data.json; got "
                f"none for {str(tables.samples.token[sample])!r}"
            )
        used.append(tables.keyframes.sensor[cameras])
    return np.unique(np.concatenate(used))


def _camera_order(channel: str) -> tuple[int, str]:
    known = channel in CAMERA_CHANNELS
    return (CAMERA_CHANNELS.index(channel) if known else len(CAMERA_CHANNELS), channel)
