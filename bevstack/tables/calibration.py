"""Poses and calibrations of the tables as float64 transforms, checked on use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.geometry import se3_from_parts, yaw_from_rotation
from bevstack.geometry.camera import check_intrinsics
from bevstack.geometry.lenses import Lens
from bevstack.geometry.se3 import rotation_from_quaternion
from bevstack.tables.annotation_checks import check_boxes, points_inside
from bevstack.tables.classes import suggest_class
from bevstack.tables.lenses import lens_from_text
from bevstack.tables.reader import Tables
from bevstack.tables.records import SensorReadings
from bevstack.types import Annotations, Boxes3D
from bevstack.vocabulary import DETECTION_CLASSES


def world_from_ego_at(
    tables: Tables,
    rows: NDArray[np.int32] | NDArray[np.int64],  # (n,) of Tables.keyframes, or of ``readings``
    readings: SensorReadings | None = None,  # such as Tables.sweeps
) -> Tensor:  # (n, 4, 4) float64
    """Return the ego pose at the timestamp of each key frame or sweep.

    Raises:
        ValueError: a pose has a quaternion of zero length; the message names the reading.
    """
    readings = tables.keyframes if readings is None else readings
    rotation = readings.rotation[rows]
    for row in np.asarray(rows)[np.abs(rotation).max(-1, initial=0) == 0]:
        raise ValueError(
            f"ego pose of sample_data {str(readings.token[row])!r} must have a rotation of "
            "non-zero length; got (0, 0, 0, 0): correct it in ego_pose.json"
        )
    translation = torch.from_numpy(readings.translation[rows])
    return se3_from_parts(torch.from_numpy(rotation), translation)


def ego_from_sensor(
    tables: Tables,
    sensors: NDArray[np.int32],  # (n,) rows of Tables.calibrated_sensors
) -> Tensor:  # (n, 4, 4) float64
    """Return the sensor poses on the vehicle; check them first with ``check_calibrations``."""
    rows = tables.calibrated_sensors
    rotation = torch.from_numpy(rows.rotation[sensors])
    return se3_from_parts(rotation, torch.from_numpy(rows.translation[sensors]))


def lens_of_sensor(tables: Tables, sensor: int) -> Lens | None:
    """Return the lens of a calibration, or None for an image without distortion.

    Raises:
        ValueError: the lens is unknown or has wrong coefficients; names the camera and its token.
    """
    rows = tables.calibrated_sensors
    text = str(rows.distortion[sensor])
    where = f"{rows.channel[sensor]} in calibrated_sensor.json (token {str(rows.token[sensor])!r})"
    return lens_from_text(text, where)


def check_calibrations(
    tables: Tables,
    sensors: NDArray[np.int32],  # (n,) rows of Tables.calibrated_sensors
) -> None:
    """Check that the calibrations are finite and invertible, and their lenses known.

    Raises:
        ValueError: one is not; the message names the sensor, its calibration token and the fault.
    """
    rows = tables.calibrated_sensors
    for row in np.unique(sensors):
        token = str(rows.token[row])
        source = f"of {rows.channel[row]} in calibrated_sensor.json (token {token!r})"
        for name in ("translation", "rotation"):
            values = getattr(rows, name)[row]
            if not np.isfinite(values).all():
                raise ValueError(
                    f"{name} {source} must be finite; got {values.tolist()}: check the calibration"
                )
        if not rows.rotation[row].any():
            raise ValueError(
                f"rotation {source} must be a quaternion of non-zero length; got (0, 0, 0, 0): "
                "check the calibration"
            )
        if rows.is_camera[row]:
            check_intrinsics(f"camera_intrinsic {source}", torch.from_numpy(rows.intrinsics[row]))
            lens_of_sensor(tables, int(row))


def world_annotations(
    tables: Tables,
    sample: int,
    class_names: Sequence[str] = DETECTION_CLASSES,
) -> Annotations:
    """Return the ground-truth boxes of a sample in the world frame, in float64.

    Args:
        tables: the version's tables.
        sample: row of the sample.
        class_names: the classes to keep; labels index into them.

    Raises:
        ValueError: a box is not finite, has no volume or no unit quaternion; names its annotation.
    """
    rows = tables.annotations_of(sample)
    table = tables.annotations
    labels = detection_labels(tables, rows, class_names)
    rows, labels = rows[labels >= 0], labels[labels >= 0]
    check_boxes(tables, rows)
    rotation = rotation_from_quaternion(torch.from_numpy(table.rotation[rows]))
    boxes = Boxes3D(
        center=torch.from_numpy(table.translation[rows]),
        size=torch.from_numpy(table.size[rows][:, [1, 0, 2]]),  # (w, l, h) -> (l, w, h)
        yaw=yaw_from_rotation(rotation),
        velocity=torch.from_numpy(table.velocity[rows]),
    )
    num_points = torch.from_numpy(points_inside(tables, rows))
    return Annotations(boxes, torch.from_numpy(labels), num_points)


def detection_labels(
    tables: Tables,
    annotations: NDArray[np.int64],  # (n,) rows of Tables.annotations
    class_names: Sequence[str],
) -> NDArray[np.int64]:  # (n,)
    """Return the class index of each annotation, -1 for categories outside ``class_names``."""
    label_by_name = {name: label for label, name in enumerate(class_names)}
    class_by_category = tables.class_by_category
    categories = tables.annotations.category[annotations]
    labels = [label_by_name.get(class_by_category.get(str(c), ""), -1) for c in categories]
    return np.array(labels, dtype=np.int64)


def check_class_names(class_names: Sequence[str]) -> None:
    """Check that every name is a nuScenes detection class.

    Raises:
        ValueError: an unknown class; the message suggests the closest name.
    """
    for name in class_names:
        if name not in DETECTION_CLASSES:
            raise ValueError(
                f"class_names must be among {', '.join(DETECTION_CLASSES)}; got {name!r}; "
                f"{suggest_class(name)}"
            )
