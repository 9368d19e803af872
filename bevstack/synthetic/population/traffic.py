"""Motion of vehicles along lanes: car following by the intelligent driver model, stops at red.

Intelligent driver model: Treiber, Hennecke, Helbing, "Congested traffic states in empirical
observations and microscopic simulations", Phys. Rev. E 62 (2000), eq. 2-3.

Letters: K steps of the time grid, V vehicles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.synthetic.streets.roads import Lane, Path

DT_S = 0.1
LEAD_IN_S = 1.0  # tracks start this long before the first sample and end this long after the last
# intelligent driver model: acceleration and comfortable braking m/s^2, headway s, least gap m
_ACCELERATION, _BRAKING, _HEADWAY_S, _GAP_M = 1.6, 2.2, 1.3, 2.5
_LATERAL_MPS2 = 2.2  # lateral acceleration in bends


@dataclass(frozen=True)
class Track:
    """A motion on the time grid of a scene: time = index * DT_S - LEAD_IN_S."""

    pose: NDArray[np.float64]  # (K, 3): x, y m and yaw rad (unwrapped)
    speed_mps: NDArray[np.float64]  # (K,)
    braking: NDArray[np.float64]  # (K,) 0..1
    alive: NDArray[np.bool_]  # (K,) True while the object is in the scene


@dataclass(frozen=True)
class Driver:
    """Initial state and driving style of a vehicle in a lane."""

    s_m: float  # arc length of its centre at the start; negative before the lane begins
    length_m: float
    speed_factor: float  # desired speed relative to the lane's limit


@dataclass(frozen=True)
class Leader:
    """A vehicle with a given motion that the first driver of a lane follows."""

    s_m: NDArray[np.float64]  # (K,) arc length of its centre; NaN while it is not in the lane
    speed_mps: NDArray[np.float64]  # (K,)
    length_m: float


def time_steps(duration_s: float) -> int:
    """Return the number of steps of the time grid of a scene."""
    return round((duration_s + 2 * LEAD_IN_S) / DT_S) + 1


def speed_profile(path: Path, limit_mps: float) -> NDArray[np.float64]:
    """Return the highest speed at each vertex of a path, which is limited in and before bends."""
    curvature = np.abs(np.gradient(path.heading_rad, path.s_m + 1e-9 * np.arange(len(path.s_m))))
    allowed = np.minimum(limit_mps, np.sqrt(_LATERAL_MPS2 / np.maximum(curvature, 1e-4)))
    squared = allowed**2
    for i in range(len(squared) - 2, -1, -1):
        reach = squared[i + 1] + 2 * 1.3 * (path.s_m[i + 1] - path.s_m[i])
        squared[i] = min(squared[i], reach)
    profile: NDArray[np.float64] = np.sqrt(squared)
    return profile


def drive_lane(
    lane: Lane,
    drivers: list[Driver],
    signals: Signals,
    steps: int,
    leader: Leader | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Simulate the vehicles of one lane.

    Args:
        lane: the lane.
        drivers: its vehicles, sorted by descending s.
        signals: of the stop lines.
        steps: length of the time grid.
        leader: a vehicle ahead of the first driver.

    Returns:
        s (V, steps) m, speed (V, steps) m/s and braking (V, steps) in 0..1.
    """
    profile = speed_profile(lane.path, lane.speed_limit_mps)
    spacing = lane.path.length_m / (len(profile) - 1)
    last = len(profile) - 1
    table = profile.tolist()
    count = len(drivers)
    s = [driver.s_m for driver in drivers]
    v = [0.85 * d.speed_factor * table[min(max(int(d.s_m / spacing), 0), last)] for d in drivers]
    out = np.zeros((3, count, steps))
    for step in range(steps):
        now = step * DT_S - LEAD_IN_S
        reds = [stop.s_m for stop in lane.stop_lines if signals.is_red(stop.phase, now)]
        for i, driver in enumerate(drivers):
            desired = driver.speed_factor * table[min(max(int(s[i] / spacing), 0), last)]
            gap, closing = 1e3, 0.0
            if i:
                gap = s[i - 1] - s[i] - (drivers[i - 1].length_m + driver.length_m) / 2
                closing = v[i] - v[i - 1]
            elif leader is not None and leader.s_m[step] > s[i]:
                gap = leader.s_m[step] - s[i] - (leader.length_m + driver.length_m) / 2
                closing = v[i] - leader.speed_mps[step]
            for red in reds:
                ahead = red - s[i] - driver.length_m / 2
                if ahead > -0.5 and v[i] ** 2 / 9.0 < ahead + 1.0 and ahead + _GAP_M < gap:
                    gap, closing = ahead + _GAP_M - 0.5, v[i]
            desired_gap = _GAP_M + max(
                0.0, v[i] * _HEADWAY_S + v[i] * closing / (2 * (_ACCELERATION * _BRAKING) ** 0.5)
            )
            acceleration = _ACCELERATION * (
                1 - (v[i] / desired) ** 4 - (desired_gap / max(gap, 0.1)) ** 2
            )
            acceleration = max(acceleration, -6.0)
            out[0, i, step], out[1, i, step] = s[i], v[i]
            out[2, i, step] = 1.0 if acceleration < -0.5 or v[i] < 0.3 else 0.0
            next_speed = max(0.0, v[i] + acceleration * DT_S)
            s[i] += (v[i] + next_speed) / 2 * DT_S
            v[i] = next_speed
    return out[0], out[1], out[2]


def track_on_path(
    path: Path,
    s_m: NDArray[np.float64],  # (K,)
    speed_mps: NDArray[np.float64],  # (K,)
    braking: NDArray[np.float64],  # (K,)
    half_length_m: float,
    offset_m: float = 0.0,
) -> Track:
    """Return a track from arc lengths; it is alive while the whole vehicle is on the path."""
    x, y, heading = path.at(s_m, offset_m)
    alive = (s_m > half_length_m) & (s_m < path.length_m - half_length_m)
    return Track(np.stack([x, y, heading], axis=1), speed_mps, braking, alive)


def walk_on_path(
    path: Path, start_s_m: float, speed_mps: float, offset_m: float, steps: int
) -> Track:
    """Return a track of constant speed, against the path's direction if the speed is negative."""
    times = np.arange(steps) * DT_S - LEAD_IN_S
    s = start_s_m + speed_mps * times
    x, y, heading = path.at(s, offset_m)
    if speed_mps < 0:
        heading = heading + np.pi
    velocity = np.abs(np.gradient(np.stack([x, y], axis=1), DT_S, axis=0))
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    alive = (s > 0.0) & (s < path.length_m)
    return Track(np.stack([x, y, heading], axis=1), speed, np.zeros(steps), alive)


def stand_still(x_m: float, y_m: float, yaw_rad: float, steps: int) -> Track:
    """Return a track without motion."""
    pose = np.tile(np.array([x_m, y_m, yaw_rad]), (steps, 1))
    return Track(pose, np.zeros(steps), np.zeros(steps), np.ones(steps, bool))


def sample_tracks(
    values: NDArray[np.float64],  # (objects, K, ...)
    time_s: float,
) -> NDArray[np.float64]:  # (objects, ...)
    """Interpolate values on the time grid linearly at one time."""
    position = (time_s + LEAD_IN_S) / DT_S
    index = min(max(int(np.floor(position)), 0), values.shape[1] - 2)
    weight = position - index
    interpolated: NDArray[np.float64] = (1 - weight) * values[:, index] + weight * values[
        :, index + 1
    ]
    return interpolated
