"""Warnings about implausible rigs of a data set, once for each camera when it is opened."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bevstack.datasets.camera_rows import camera_rows
from bevstack.datasets.image_sizes import known_image_sizes
from bevstack.geometry.rig_plausibility import (
    RigCameras,
    RigFault,
    find_rig_faults,
    warn_of_rig_faults,
)
from bevstack.tables.calibration import ego_from_sensor, lens_of_sensor
from bevstack.tables.reader import Tables


def warn_of_rigs(tables: Tables, samples: Iterable[int]) -> None:
    """Warn of every camera that cannot be; call it after ``check_calibrations``.

    Args:
        tables: the version's tables.
        samples: rows of one sample of each scene, whose rig stands for that of the scene.

    Warns:
        ImplausibleRigWarning: a camera cannot be where the tables put it. Of several scenes with
            faults of one camera, the first one is named and the remaining ones are counted.
    """
    first: dict[str, tuple[RigFault, str]] = {}
    count: dict[str, int] = {}
    for sample in samples:
        for fault in find_rig_faults(_cameras(tables, int(sample))):
            scene = str(tables.scenes.name[tables.samples.scene[sample]])
            first.setdefault(fault.camera, (fault, scene))
            count[fault.camera] = count.get(fault.camera, 0) + 1
    for camera, (fault, scene) in first.items():
        more = f" and {count[camera] - 1} more scenes" if count[camera] > 1 else ""
        warn_of_rig_faults([fault], f" (calibrated_sensor.json, {scene}{more})")


def _cameras(tables: Tables, sample: int) -> RigCameras:
    """Return the calibrations of a sample's cameras."""
    sensors = tables.calibrated_sensors
    rows = camera_rows(tables, sample)
    used = tables.keyframes.sensor[rows]
    lenses = [lens_of_sensor(tables, int(sensor)) for sensor in used]
    return RigCameras(
        names=[str(channel) for channel in sensors.channel[used]],
        ego_from_cam=ego_from_sensor(tables, used).numpy(),
        intrinsics=sensors.intrinsics[used],
        image_size=known_image_sizes(tables, rows),
        norm=np.linalg.norm(sensors.rotation[used], axis=1),
        fisheye=np.array([lens is not None and lens.is_fisheye for lens in lenses]),
    )
