"""Lidar points of a sample, in its ego frame."""

from __future__ import annotations

import numpy as np

from bevstack.file_bytes import read_bytes
from bevstack.geometry import invert_se3
from bevstack.render.layers import as_array
from bevstack.tables.calibration import ego_from_sensor, world_from_ego_at
from bevstack.tables.reader import Tables
from bevstack.tables.records import SensorReadings
from bevstack.types import Frame
from bevstack.viewer.moment import Floats, Indices

_SUFFIX = ".pcd.bin"  # nuScenes' files of lidar points
_VALUES = 5  # float32 values of a point: x, y, z, intensity, ring
_MAX_BYTES = 1 << 26
_REACH_US = 100_000  # a sweep that is farther in time from its sample is not shown
_EGO_REACH_M = 2.2  # nearer points lie on the vehicle itself


def lidar_points(
    tables: Tables,
    sample: int,
    frame: Frame,  # of the sample
    *,
    max_points: int = 40_000,
) -> Floats | None:  # (P, 3) metres in the ego frame
    """Return the lidar points of a sample; None if the data set has no file of them.

    They are those of its key frame, else of the sweep nearest in time within 0.1 s. Of more points
    than ``max_points``, every second one is kept, and so on.

    Raises:
        ValueError: the file is no list of points.
    """
    readings = (tables.keyframes, tables.keyframes_of(sample))
    found = _nearest(tables, *readings, frame.timestamp_us)
    if found is None:
        sweeps = tables.sweeps
        near = np.abs(sweeps.timestamp_us - frame.timestamp_us) <= _REACH_US
        readings = (sweeps, np.flatnonzero(near))
        found = _nearest(tables, *readings, frame.timestamp_us)
    if found is None or frame.world_from_ego is None:
        return None
    points = _read(tables, str(readings[0].filename[found]))
    row = np.array([found])
    pose = ego_from_sensor(tables, readings[0].sensor[row])[0]
    pose = invert_se3(frame.world_from_ego) @ world_from_ego_at(tables, row, readings[0])[0] @ pose
    points = points[:: max(-(-len(points) // max_points), 1)]
    ego_from_lidar = as_array(pose)
    placed = points @ ego_from_lidar[:3, :3].T + ego_from_lidar[:3, 3]
    kept: Floats = placed[np.hypot(placed[:, 0], placed[:, 1]) > _EGO_REACH_M]
    return kept


def _nearest(tables: Tables, readings: SensorReadings, rows: Indices, time_us: int) -> int | None:
    """Return the row of the lidar reading nearest in time that has a file of points."""
    rows = rows[tables.calibrated_sensors.is_lidar[readings.sensor[rows]]]
    for row in rows[np.argsort(np.abs(readings.timestamp_us[rows] - time_us), kind="stable")]:
        name = str(readings.filename[row])
        if name.endswith(_SUFFIX) and tables.file_path(name).is_file():
            return int(row)
    return None


def _read(tables: Tables, filename: str) -> Floats:
    data = read_bytes(tables.file_path(filename), "lidar file", max_bytes=_MAX_BYTES)
    if len(data) % (4 * _VALUES):
        raise ValueError(
            f"lidar file must hold {_VALUES} float32 values a point; got {len(data)} bytes in "
            f"{filename}"
        )
    points = np.frombuffer(data, np.dtype("<f4")).reshape(-1, _VALUES)[:, :3].astype(np.float64)
    finite: Floats = points[np.isfinite(points).all(1)]
    return finite
