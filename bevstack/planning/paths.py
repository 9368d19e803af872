"""Predicted paths of objects: constant turn rate and speed, with a covariance that grows.

The motion model is the coordinated turn with a known speed of turning: Y. Bar-Shalom, X. R. Li and
T. Kirubarajan, "Estimation with Applications to Tracking and Navigation", 2001, section 11.7. The
velocity stands as a vector, not as speed and course, so that a standing object needs no special
case. With points as complex numbers x + iy, a velocity w turns as w e^(i r t), and every derivative
of the position is one of the moments of ``_turning_moments``. At turn rate 0 without its deviation,
the model equals that of ``tracking.kalman``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HORIZON_S = 3.0
TIME_STEP_S = 0.5
ACCELERATION_MPS2 = 1.0  # deviation of the acceleration along each axis of the object
TURN_RATE_STD_RADPS = 0.2  # of objects before their headings are known: a turn of 90 deg in 8 s
HEADING_STD_RAD = 0.1  # of one heading, from which a turn rate is estimated
_SERIES_TERMS = 24  # of the exponential for angles below 1: the last term is below 1e-24


@dataclass(frozen=True, kw_only=True)
class PredictedPaths:
    """The paths of N objects at T moments, in an upright frame that does not move.

    The first moment is one time step after the frame.
    """

    times_s: Floats  # (T,) since the frame
    position: Floats  # (N, T, 2) metres, of the centre
    yaw: Floats  # (N, T) radians, of the box
    velocity: Floats  # (N, T, 2) metres per second
    covariance: Floats  # (N, T, 4, 4) of x, y, vx, vy

    @property
    def time_step_s(self) -> float:
        """Return the time between two moments."""
        return float(self.times_s[0])


def predict_paths(
    state: Floats,  # (N, 4) x, y, vx, vy: metres and metres per second
    covariance: Floats,  # (N, 4, 4) of the state
    yaw: Floats,  # (N,) radians, of the box
    turn_rate: Floats,  # (N,) radians per second, counter-clockwise
    turn_rate_std: Floats,  # (N,) radians per second
    *,
    horizon_s: float = HORIZON_S,
    time_step_s: float = TIME_STEP_S,
    acceleration_mps2: float = ACCELERATION_MPS2,
) -> PredictedPaths:
    """Predict where objects go if they keep their speed and their rate of turning.

    The covariance at each moment is that of the state, carried along to first order, and those of
    the turn rate and of a constant random acceleration in the object's turning axes.

    Raises:
        ValueError: the shapes differ, a value is not finite, or a time is not positive.
    """
    _check(state, covariance, yaw, turn_rate, turn_rate_std)
    steps = round(horizon_s / time_step_s) if time_step_s > 0 else 0
    if steps < 1:
        raise ValueError(
            "horizon_s and time_step_s must be positive, with a step in the horizon; got "
            f"{horizon_s} and {time_step_s}"
        )
    times = time_step_s * np.arange(1, steps + 1)
    angle = turn_rate[:, None] * times  # (N, T)
    turned = np.exp(1j * angle)
    zeroth, first = _turning_moments(angle, times)
    start = state[:, 0] + 1j * state[:, 1]
    velocity = (state[:, 2] + 1j * state[:, 3])[:, None]
    # Derivatives of (position, velocity) with respect to the velocity, the turn rate and the
    # acceleration.
    by_velocity = _rows(_rotations(zeroth), _rotations(turned))
    by_rate = np.concatenate(
        (_pairs(1j * first * velocity), _pairs(1j * times * turned * velocity)), -1
    )
    by_acceleration = _rows(_rotations(first), _rotations(times * turned))
    transition = np.zeros((*angle.shape, 4, 4))
    transition[..., :2, :2] = np.eye(2)
    transition[..., 2:] = by_velocity
    spread = transition @ covariance[:, None] @ transition.swapaxes(-1, -2)
    spread += (
        turn_rate_std[:, None, None, None] ** 2 * by_rate[..., :, None] * by_rate[..., None, :]
    )
    spread += acceleration_mps2**2 * by_acceleration @ by_acceleration.swapaxes(-1, -2)
    return PredictedPaths(
        times_s=times,
        position=_pairs(start[:, None] + zeroth * velocity),
        yaw=np.remainder(yaw[:, None] + angle + math.pi, 2 * math.pi) - math.pi,
        velocity=_pairs(turned * velocity),
        covariance=spread,
    )


def estimate_turn_rate(
    times_s: Floats,  # (K,) any order
    yaws: Floats,  # (K,) radians
    *,
    heading_std_rad: float = HEADING_STD_RAD,
    prior_std_radps: float = TURN_RATE_STD_RADPS,
) -> tuple[float, float]:
    """Return the turn rate of an object from its headings, and its standard deviation.

    The headings are a line over time with independent normal errors, and the turn rate is normal
    around 0 before they are known: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006,
    section 3.3. The mean heading is free. A heading is unwrapped towards its predecessor.

    Raises:
        ValueError: the numbers of times and headings differ.
    """
    if times_s.shape != yaws.shape or times_s.ndim != 1:
        raise ValueError(
            f"times_s and yaws must have one axis of equal length; got {times_s.shape} and "
            f"{yaws.shape}"
        )
    if not len(times_s):
        return 0.0, prior_std_radps
    order = np.argsort(times_s, kind="stable")
    times, headings = times_s[order], np.unwrap(yaws[order])
    centred = times - times.mean()
    precision = prior_std_radps**-2 + float(centred @ centred) / heading_std_rad**2
    rate = float(centred @ headings) / heading_std_rad**2 / precision
    return rate, precision**-0.5


def _turning_moments(
    angle: Floats,  # (N, T)
    times: Floats,  # (T,)
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:  # (N, T) each
    """Return the integrals of e^(i r s) and of s e^(i r s) over s from 0 to each time."""
    exponent = 1j * angle
    small = np.abs(angle) < 1.0  # there the closed form cancels; the series does not
    safe = np.where(small, 1j, exponent)
    turned = np.exp(safe)
    zeroth = (turned - 1) / safe
    first = (turned * (safe - 1) + 1) / safe**2
    near = np.where(small, exponent, 0)
    series_zeroth, series_first = np.zeros_like(near), np.zeros_like(near)
    power = np.ones_like(near)
    for k in range(_SERIES_TERMS):
        series_zeroth += power / (k + 1)
        series_first += power / (k + 2)
        power = power * near / (k + 1)
    return (
        times * np.where(small, series_zeroth, zeroth),
        times**2 * np.where(small, series_first, first),
    )


def _pairs(points: NDArray[np.complex128]) -> Floats:  # (..., 2)
    return np.stack((points.real, points.imag), -1)


def _rotations(factors: NDArray[np.complex128]) -> Floats:  # (..., 2, 2)
    """Return the matrices of the multiplication by complex factors."""
    real, imaginary = factors.real, factors.imag
    return np.stack((np.stack((real, -imaginary), -1), np.stack((imaginary, real), -1)), -2)


def _rows(upper: Floats, lower: Floats) -> Floats:  # (..., 4, 2)
    return np.concatenate((upper, lower), -2)


def _check(
    state: Floats, covariance: Floats, yaw: Floats, turn_rate: Floats, turn_rate_std: Floats
) -> None:
    count = len(state)
    for name, value, shape in (
        ("state", state, (count, 4)),
        ("covariance", covariance, (count, 4, 4)),
        ("yaw", yaw, (count,)),
        ("turn_rate", turn_rate, (count,)),
        ("turn_rate_std", turn_rate_std, (count,)),
    ):
        if value.shape != shape:
            raise ValueError(f"{name} must have shape {shape}; got {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite; got {value.tolist()}")
