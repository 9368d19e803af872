"""Times at which the sensors of a scene are read."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.synthetic.scene import SAMPLE_PERIOD_S


@dataclass(frozen=True)
class SensorReading:
    """One reading of a sensor, at a keyframe or between two keyframes."""

    since_start_us: int  # nominal time, without the time offset of the sensor
    sample: int  # index; between two keyframes, that of the second
    is_key: bool


def sensor_readings(samples: int, between: int) -> list[SensorReading]:
    """Return all readings of one sensor in order of time.

    Args:
        samples: number of keyframes.
        between: readings between two keyframes, evenly spaced.
    """
    period_us = int(SAMPLE_PERIOD_S * 1e6)
    readings = []
    for sample in range(samples):
        for step in range(between if sample else 0, 0, -1):
            time_us = sample * period_us - step * period_us // (between + 1)
            readings.append(SensorReading(time_us, sample, False))
        readings.append(SensorReading(sample * period_us, sample, True))
    return readings
