"""What the tables hold, as columns: one frozen dataclass a table, one array a field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.columns import NO_ROW

MAX_VELOCITY_GAP_S = 1.5  # between neighbouring annotations of an instance; devkit's box_velocity


@dataclass(frozen=True)
class Scenes:
    """Rows of ``scene.json``."""

    token: NDArray[np.str_]  # (C,)
    name: NDArray[np.str_]  # (C,)
    description: NDArray[np.str_]  # (C,)


@dataclass(frozen=True)
class Samples:
    """Rows of ``sample.json``: the annotated moments, two a second."""

    token: NDArray[np.str_]  # (S,)
    timestamp_us: NDArray[np.int64]  # (S,)
    scene: NDArray[np.int32]  # (S,) row in Scenes


@dataclass(frozen=True)
class CalibratedSensors:
    """Rows of ``calibrated_sensor.json`` joined with their sensor; not checked until used."""

    token: NDArray[np.str_]  # (K,)
    channel: NDArray[np.str_]  # (K,) such as "CAM_FRONT"
    is_camera: NDArray[np.bool_]  # (K,)
    translation: NDArray[np.float64]  # (K, 3) metres, of ego_from_sensor
    rotation: NDArray[np.float64]  # (K, 4) quaternion wxyz, of ego_from_sensor
    intrinsics: NDArray[np.float64]  # (K, 3, 3) pixels; NaN where the sensor is no camera


@dataclass(frozen=True)
class Keyframes:
    """The key-frame rows of ``sample_data.json``, each joined with its own ego pose."""

    token: NDArray[np.str_]  # (D,)
    sample: NDArray[np.int32]  # (D,) row in Samples
    sensor: NDArray[np.int32]  # (D,) row in CalibratedSensors
    filename: NDArray[np.str_]  # (D,) below the root
    size: NDArray[np.int64]  # (D, 2) (height, width) pixels, 0 for other sensors than cameras
    timestamp_us: NDArray[np.int64]  # (D,)
    translation: NDArray[np.float64]  # (D, 3) metres, of world_from_ego at that time
    rotation: NDArray[np.float64]  # (D, 4) quaternion wxyz, of world_from_ego at that time


@dataclass(frozen=True)
class SampleAnnotations:
    """Rows of ``sample_annotation.json``: true boxes in the world frame."""

    token: NDArray[np.str_]  # (A,)
    sample: NDArray[np.int32]  # (A,) row in Samples
    instance: NDArray[np.int32]  # (A,) which object, row of instance.json
    category: NDArray[np.str_]  # (A,) such as "vehicle.car"
    attribute: NDArray[np.str_]  # (A,) such as "vehicle.parked", "" for none
    translation: NDArray[np.float64]  # (A, 3) metres, centre of gravity
    size: NDArray[np.float64]  # (A, 3) metres, (width, length, height)
    rotation: NDArray[np.float64]  # (A, 4) quaternion wxyz, of world_from_box
    num_points: NDArray[np.int64]  # (A,) lidar and radar points inside
    velocity: NDArray[np.float64]  # (A, 2) m/s along world (x, y), NaN where unknown


def annotation_velocity(
    translation: NDArray[np.float64],  # (A, 3)
    timestamp_us: NDArray[np.int64],  # (A,)
    prev: NDArray[np.int32],  # (A,)
    next_: NDArray[np.int32],  # (A,)
) -> NDArray[np.float64]:  # (A, 2)
    """The devkit's rule: the difference of the neighbours in time that exist.

    NaN without a neighbour, and where they lie more than 1.5 s apart (3 s when both exist). Times
    are scaled to seconds before they are subtracted, so that the last bit agrees.
    """
    own = np.arange(len(translation))
    first = np.where(prev == NO_ROW, own, prev)
    last = np.where(next_ == NO_ROW, own, next_)
    seconds = 1e-6 * timestamp_us
    gap = seconds[last] - seconds[first]
    both = (prev != NO_ROW) & (next_ != NO_ROW)
    known = (gap > 0) & (gap <= np.where(both, 2 * MAX_VELOCITY_GAP_S, MAX_VELOCITY_GAP_S))
    difference = (translation[last] - translation[first])[:, :2]
    velocity = np.full((len(own), 2), np.nan)
    np.divide(difference, gap[:, None], out=velocity, where=known[:, None])
    return velocity
