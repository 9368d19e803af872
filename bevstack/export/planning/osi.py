"""ASAM OSI 3: SensorData of a virtual sensor, and a trace file of a drive.

The sensor's mounting position is the identity, so its frame is OSI's vehicle frame: x forward, y
left, z up, with its origin in the centre of the rear axle at the axle's own height. The project's
ego frame has its origin below, on the ground; z differs by ``rear_axle_height_m``. Angles are Euler
angles; ``base_rmse`` holds standard deviations. OSI has no place for correlations, paths, trust and
advice: they stand in a file beside the trace.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from bevstack.export.planning.extension import write_extension
from bevstack.export.planning.osi_traffic import add_traffic, set_vector
from bevstack.export.planning.scene import PlanningFrame, check_one_drive
from bevstack.files import write_atomically

SUFFIX = ".osi"
REAR_AXLE_HEIGHT_M = 0.33  # radius of a passenger car's wheel
SENSOR_ID = 1

VEHICLE, PEDESTRIAN = 2, 3  # MovingObject.Type
# MovingObject.VehicleClassification.Type of the moving classes.
VEHICLE_TYPES = MappingProxyType(
    {
        "car": 4,
        "truck": 7,
        "bus": 12,
        "trailer": 9,
        "construction_vehicle": 19,
        "motorcycle": 10,
        "bicycle": 11,
    }
)
# StationaryObject.Classification.Type: pylon and barrier.
STATIONARY_TYPES = MappingProxyType({"traffic_cone": 5, "barrier": 8})
MEASURED, PREDICTED = 2, 3  # DetectedItemHeader.MeasurementState


def write_osi(
    path: Path,
    frames: Sequence[PlanningFrame],
    *,
    rear_axle_height_m: float = REAR_AXLE_HEIGHT_M,
) -> Path:
    """Write the frames of one drive as a trace of SensorData, and return the extension's path.

    In the trace, each message follows its length as a 32-bit number, lowest byte first.

    Raises:
        ModuleNotFoundError: osi-python is not installed (the extra ``export``).
        OSError: a file cannot be written.
        ValueError: the frames are not of one drive in order of time, the path does not end in
            ".osi", or the height is not from 0 to 2 m.
    """
    check_one_drive(frames)
    if path.suffix != SUFFIX:
        raise ValueError(f"OSI trace must end in {SUFFIX}; got {path}: change the name")
    data = []
    for frame in frames:
        message: bytes = make_sensor_data(
            frame, rear_axle_height_m=rear_axle_height_m
        ).SerializeToString(deterministic=True)
        data += [struct.pack("<L", len(message)), message]
    write_atomically(path, data)
    return write_extension(path, frames)


def make_sensor_data(
    frame: PlanningFrame, *, rear_axle_height_m: float = REAR_AXLE_HEIGHT_M
) -> Any:
    """Return the SensorData of one frame.

    Raises:
        ModuleNotFoundError: osi-python is not installed (the extra ``export``).
        ValueError: the height is not from 0 to 2 m.
    """
    if not 0 <= rear_axle_height_m <= 2:
        raise ValueError(
            f"rear_axle_height_m must be from 0 to 2 metres; got {rear_axle_height_m:g}"
        )
    from osi3 import osi_version_pb2
    from osi3.osi_sensordata_pb2 import SensorData

    data = SensorData()
    options = osi_version_pb2.DESCRIPTOR.GetOptions()
    data.version.CopyFrom(options.Extensions[osi_version_pb2.current_interface_version])
    set_time(data.timestamp, frame)
    set_time(data.last_measurement_time, frame)
    data.sensor_id.value = SENSOR_ID
    for part in (data.mounting_position.position, data.mounting_position.orientation):
        part.SetInParent()
    shift = np.array((0.0, 0.0, -rear_axle_height_m))
    for row, name in enumerate(frame.objects.class_names):
        if name in STATIONARY_TYPES:
            item = data.stationary_object.add()
            candidate = item.candidate.add(probability=1.0)
            candidate.classification.type = STATIONARY_TYPES[name]
        else:
            item = data.moving_object.add()
            candidate = item.candidate.add(probability=1.0)
            candidate.type = PEDESTRIAN if name == "pedestrian" else VEHICLE
            if name in VEHICLE_TYPES:
                candidate.vehicle_classification.type = VEHICLE_TYPES[name]
        _fill(item, frame, row, shift)
    add_traffic(data, frame.cues, shift)
    return data


def set_time(message: Any, frame: PlanningFrame) -> None:
    """Set a Timestamp to the frame's time, exactly."""
    message.seconds, message.nanos = frame.seconds, frame.nanoseconds


def _fill(item: Any, frame: PlanningFrame, row: int, shift: np.ndarray[Any, Any]) -> None:
    """Set header, base and deviations of a detected object."""
    objects = frame.objects
    if objects.identity is not None:
        item.header.tracking_id.value = int(objects.identity[row])
    item.header.existence_probability = float(objects.existence[row])
    seen = objects.last_seen_us is None or objects.last_seen_us[row] >= frame.timestamp_us
    item.header.measurement_state = MEASURED if seen else PREDICTED
    base = item.base
    set_vector(base.position, objects.center[row] + shift)
    length, width, height = objects.size[row].tolist()
    base.dimension.length, base.dimension.width, base.dimension.height = length, width, height
    base.orientation.yaw = float(objects.yaw[row])
    moves = hasattr(base, "velocity")
    if moves and np.isfinite(objects.velocity[row]).all():
        set_vector(base.velocity, np.array((*objects.velocity[row], 0.0)))
    if objects.covariance is not None:
        spread = np.sqrt(np.diagonal(objects.covariance[row]))
        item.base_rmse.position.x, item.base_rmse.position.y = spread[:2].tolist()
        if moves:
            item.base_rmse.velocity.x, item.base_rmse.velocity.y = spread[2:].tolist()
    if objects.uncertainty is not None:
        known = objects.uncertainty[row : row + 1].to(torch.float64)
        rmse = item.base_rmse
        rmse.position.z = float(known.elevation_m2.sqrt())
        rmse.orientation.yaw = float(known.yaw_rad2.sqrt())
        deviations = known.size_m2[0].sqrt().tolist()
        rmse.dimension.length, rmse.dimension.width, rmse.dimension.height = deviations
