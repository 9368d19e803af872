"""Checks of the lidar frame, in which the BEV grid of published weights lies."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from bevstack.geometry import nominal_bev_from_ego
from bevstack.tables.calibration import ego_from_sensor
from bevstack.tables.names import LIDAR_CHANNEL
from bevstack.tables.reader import Tables

_MIN_COSINE = 0.7  # of the angle between a lidar's axes and LIDAR_TOP's: 45 degrees


def check_lidar_frame(
    tables: Tables,
    reference: NDArray[np.int32],  # (S,) rows of Tables.keyframes, of the samples' references
) -> None:
    """Check that the references are lidars, and warn of one that is turned against LIDAR_TOP.

    Raises:
        ValueError: a reference is a camera, whose pose gives no lidar frame.
    """
    sensors = tables.calibrated_sensors
    used = np.unique(tables.keyframes.sensor[reference])
    cameras = used[~sensors.is_lidar[used]]
    if len(cameras):
        row = int(reference[tables.keyframes.sensor[reference] == cameras[0]][0])
        scene = tables.scenes.name[tables.samples.scene[tables.keyframes.sample[row]]]
        raise ValueError(
            f"bev_frame 'lidar' must have key frames of {LIDAR_CHANNEL} or of another lidar; got "
            f"only cameras in scene {str(scene)!r}: use weights whose grid.frame is 'ego'"
        )
    nominal = nominal_bev_from_ego("lidar")[:3, :3]
    for sensor in used[sensors.channel[used] != LIDAR_CHANNEL]:
        axes = ego_from_sensor(tables, np.array([sensor], dtype=np.int32))[0, :3, :3]
        if float((nominal @ axes).diagonal().min()) < _MIN_COSINE:
            warnings.warn(
                f"the BEV grid lies in the frame of {sensors.channel[sensor]}, whose axes are "
                f"turned against {LIDAR_CHANNEL}'s (x right, y forward): weights trained in that "
                "frame will not detect well",
                stacklevel=3,
            )
