"""Reference key frames: the readings that give each sample its ego pose.

The rule, scene by scene, so that all poses of a scene come from one kind of sensor:

1. LIDAR_TOP, if the scene has any key frame of it; every sample of the scene must then have one.
2. Otherwise another lidar that has a key frame in every sample of the scene: the first by name.
3. Otherwise the camera whose key frame is nearest in time to the sample; of several, the first by
   name.

The time of a sample is always its own, from ``sample.json``.

Letters: S samples, D key frames, C scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.links import NO_ROW
from bevstack.tables.names import LIDAR_CHANNEL
from bevstack.tables.records import CalibratedSensors, Samples, SensorReadings


def reference_rows(
    samples: Samples, keyframes: SensorReadings, sensors: CalibratedSensors
) -> NDArray[np.int32]:  # (S,)
    """Return the key-frame row of each sample's reference, ``NO_ROW`` where the rule finds none."""
    reference = np.full(len(samples.token), NO_ROW, dtype=np.int32)
    channel = sensors.channel[keyframes.sensor]  # (D,)
    top = np.flatnonzero(channel == LIDAR_CHANNEL)
    reference[keyframes.sample[top]] = top
    open_scenes = np.ones(int(samples.scene.max(initial=-1)) + 1, dtype=np.bool_)  # (C,)
    open_scenes[samples.scene[keyframes.sample[top]]] = False
    lidars = sensors.is_lidar[keyframes.sensor]  # (D,)
    for name in sorted(set(channel[lidars].tolist()) - {LIDAR_CHANNEL}):
        rows = np.flatnonzero(lidars & (channel == name))
        rows = rows[open_scenes[samples.scene[keyframes.sample[rows]]]]
        with_lidar = np.bincount(
            samples.scene[np.unique(keyframes.sample[rows])], minlength=len(open_scenes)
        )
        complete = open_scenes & (with_lidar == np.bincount(samples.scene))
        rows = rows[complete[samples.scene[keyframes.sample[rows]]]]
        reference[keyframes.sample[rows]] = rows
        open_scenes &= ~complete
    rows = np.flatnonzero(sensors.is_camera[keyframes.sensor])
    rows = rows[open_scenes[samples.scene[keyframes.sample[rows]]]]
    sample = keyframes.sample[rows]
    lag = np.abs(keyframes.timestamp_us[rows] - samples.timestamp_us[sample])
    order = np.lexsort((channel[rows], lag))[::-1]  # the nearest is written last
    reference[sample[order]] = rows[order]
    return reference
