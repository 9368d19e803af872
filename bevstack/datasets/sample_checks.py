"""Checks of the samples of a data set: times, ages of cameras, and the frame of the BEV grid."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from bevstack.geometry import nominal_bev_from_ego
from bevstack.tables.calibration import ego_from_sensor
from bevstack.tables.names import LIDAR_CHANNEL
from bevstack.tables.reader import Tables
from bevstack.tables.time_checks import check_camera_ages, check_time_unit
from bevstack.types.frame_checks import check_limit

_MIN_COSINE = 0.7  # of the angle between a lidar's axes and LIDAR_TOP's: 45 degrees


def check_samples(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows, of whole scenes
    bev_frame: str,
    max_camera_age_s: float,
) -> None:
    """Check the times of samples, the ages of their cameras, and that the bev frame exists.

    A ``StaleCameraWarning`` names each camera that is too old for its sample.

    Raises:
        ValueError: times are not in microseconds, a sample has no current camera, or the bev frame
            is a lidar's and a scene has none.
    """
    check_limit("max_camera_age_s", max_camera_age_s)
    check_time_unit(tables, samples)
    check_camera_ages(tables, samples, max_camera_age_s)
    if bev_frame == "lidar":
        _check_lidar_frame(tables, tables.reference_keyframes(samples))


def _check_lidar_frame(
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
                stacklevel=4,  # the caller of the data set's constructor
            )
