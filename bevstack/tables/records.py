"""Records: the content of the tables as columns, one dataclass a table and one array a field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.links import NO_ROW
from bevstack.tables.text import CodedText, PlainText, TextColumn, text_column

MAX_VELOCITY_GAP_S = 1.5  # between neighbouring annotations of an instance; devkit's box_velocity


@dataclass(frozen=True)
class Scenes:
    """Rows of ``scene.json``."""

    token: NDArray[np.str_]  # (C,)
    name: NDArray[np.str_]  # (C,)
    description: NDArray[np.str_]  # (C,)


@dataclass(frozen=True)
class Samples:
    """Rows of ``sample.json``: the annotated keyframes, two a second."""

    token: NDArray[np.str_]  # (S,)
    timestamp_us: NDArray[np.int64]  # (S,)
    scene: NDArray[np.int32]  # (S,) row in Scenes


@dataclass(frozen=True)
class CalibratedSensors:
    """Rows of ``calibrated_sensor.json``, joined with their sensor; checked on use, not here."""

    token: NDArray[np.str_]  # (K,)
    channel: NDArray[np.str_]  # (K,) such as "CAM_FRONT"
    is_camera: NDArray[np.bool_]  # (K,)
    is_lidar: NDArray[np.bool_]  # (K,)
    translation: NDArray[np.float64]  # (K, 3) metres, of ego_from_sensor
    rotation: NDArray[np.float64]  # (K, 4) quaternion wxyz, of ego_from_sensor
    intrinsics: NDArray[np.float64]  # (K, 3, 3) pixels; NaN if the sensor is no camera
    distortion: NDArray[np.str_]  # (K,) fields of the lens as JSON, "" for none; see `lens_fields`


@dataclass(frozen=True)
class SensorReadings:
    """Rows of ``sample_data.json``, each joined with its ego pose."""

    token: TextColumn  # (D,)
    sample: NDArray[np.int32]  # (D,) row in Samples; for a sweep the nearest in time
    sensor: NDArray[np.int32]  # (D,) row in CalibratedSensors
    filename: TextColumn  # (D,) relative to the root
    size: NDArray[np.int32]  # (D, 2) (height, width) pixels, 0 for sensors that are no cameras
    timestamp_us: NDArray[np.int64]  # (D,)
    translation: NDArray[np.float64]  # (D, 3) metres, of world_from_ego at timestamp_us
    rotation: NDArray[np.float64]  # (D, 4) quaternion wxyz, of world_from_ego at timestamp_us


@dataclass(frozen=True)
class SampleAnnotations:
    """Rows of ``sample_annotation.json``: ground-truth boxes in the world frame.

    Centres, sizes and rotations are those of the table; ``annotation_checks`` checks them on use.
    """

    token: TextColumn  # (A,)
    sample: NDArray[np.int32]  # (A,) row in Samples
    instance: NDArray[np.int32]  # (A,) the object, row of instance.json
    category: CodedText  # (A,) such as "vehicle.car"
    attribute: CodedText  # (A,) such as "vehicle.parked", "" for none
    visibility: (
        CodedText  # (A,) token of visibility.json: "1" for 0-40 % .. "4" for 80-100 %, or ""
    )
    translation: NDArray[np.float64]  # (A, 3) metres, centre of gravity
    size: NDArray[np.float64]  # (A, 3) metres, (width, length, height)
    rotation: NDArray[np.float64]  # (A, 4) quaternion wxyz, of world_from_box
    num_points: NDArray[np.int64]  # (A,) sum of the two counts of points inside, as in the devkit
    counted: NDArray[np.bool_]  # (A,) False if a count is negative: the points were not counted
    velocity: NDArray[np.float64]  # (A, 2) m/s along world (x, y), NaN if unknown


Record = Scenes | Samples | CalibratedSensors | SensorReadings | SampleAnnotations

# The records of a version, by the names of the attributes of `Tables`.
RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {
        "scenes": Scenes,
        "samples": Samples,
        "calibrated_sensors": CalibratedSensors,
        "keyframes": SensorReadings,
        "sweeps": SensorReadings,
        "annotations": SampleAnnotations,
    }
)
_STRINGS = "str"  # part name that marks a numpy array of strings


def record_to_arrays(record: Record) -> dict[str, NDArray[Any]]:
    """Convert a record to arrays of bytes and numbers, by ``field`` or ``field.part``."""
    arrays: dict[str, NDArray[Any]] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, TextColumn):
            arrays.update((f"{field.name}.{part}", a) for part, a in value.arrays().items())
        elif value.dtype.kind == "U":
            packed = PlainText.from_strings(value.tolist()).arrays()["text"]
            arrays[f"{field.name}.{_STRINGS}"] = packed
        else:
            arrays[field.name] = value
    return arrays


def record_from_arrays(kind: type[Record], arrays: Mapping[str, NDArray[Any]]) -> Record:
    """Restore a record from its arrays: the inverse of ``record_to_arrays``."""
    columns: list[Any] = []
    for field in fields(kind):
        parts = {
            name.partition(".")[2]: array
            for name, array in arrays.items()
            if name.partition(".")[0] == field.name
        }
        if _STRINGS in parts:
            columns.append(np.asarray(PlainText(parts[_STRINGS])))
        else:
            columns.append(parts[""] if "" in parts else text_column(parts))
    return kind(*columns)


def annotation_velocity(
    translation: NDArray[np.float64],  # (A, 3)
    timestamp_us: NDArray[np.int64],  # (A,)
    prev: NDArray[np.int32],  # (A,) row of the previous annotation of the instance, or NO_ROW
    next_: NDArray[np.int32],  # (A,) row of the next one, or NO_ROW
) -> NDArray[np.float64]:  # (A, 2)
    """Return the velocity of each annotation by nuscenes-devkit's ``box_velocity`` rule.

    The velocity is the difference quotient between the previous and the next annotation of the
    instance; a missing one is replaced by the annotation itself. It is NaN if both are missing, or
    if the two are more than 1.5 s apart (3 s if both exist). Times are converted to seconds before
    they are subtracted, so that the result equals the devkit's to the last bit.
    """
    own = np.arange(len(translation))
    first = np.where(prev == NO_ROW, own, prev)
    last = np.where(next_ == NO_ROW, own, next_)
    seconds = 1e-6 * timestamp_us
    gap = seconds[last] - seconds[first]
    both = (prev != NO_ROW) & (next_ != NO_ROW)
    known = (gap > 0) & (gap <= np.where(both, 2 * MAX_VELOCITY_GAP_S, MAX_VELOCITY_GAP_S))
    with np.errstate(invalid="ignore", over="ignore"):  # infinite centres, refused on use
        difference = (translation[last] - translation[first])[:, :2]
    known &= np.isfinite(difference).all(axis=1)
    velocity = np.full((len(own), 2), np.nan)
    np.divide(difference, gap[:, None], out=velocity, where=known[:, None])
    return velocity
