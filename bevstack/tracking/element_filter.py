"""Kalman filters of elements that stand still and that move at a constant velocity.

Y. Bar-Shalom, X. R. Li and T. Kirubarajan, "Estimation with Applications to Tracking and
Navigation", 2001, sections 5.2 and 6.3.2; comparison of the two models: section 11.6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NEAREST_M = 1.0  # smallest range: nearer elements were passed, and hardly have a direction


def predict_motion(
    state: Floats,  # (E, 6) position and velocity
    covariance: Floats,  # (E, 6, 6)
    *,
    seconds: float,
    acceleration_mps2: float,
) -> tuple[Floats, Floats]:  # (E, 6), (E, 6, 6)
    """Predict moving elements after a time step of random acceleration."""
    transition = np.eye(6)
    transition[:3, 3:] = seconds * np.eye(3)
    gain = np.concatenate((seconds**2 / 2 * np.eye(3), seconds * np.eye(3)))  # (6, 3)
    noise = acceleration_mps2**2 * gain @ gain.T
    return state @ transition.T, transition @ covariance @ transition.T + noise


def update(
    state: Floats,  # (K, D) whose first three components are a position
    covariance: Floats,  # (K, D, D)
    measured_m: Floats,  # (K, 3)
    noise_m2: Floats,  # (K, 3, 3)
) -> tuple[Floats, Floats, Floats]:  # (K, D), (K, D, D), (K,) log-likelihoods
    """Correct states with measured positions; the covariance has Joseph's form."""
    residual = measured_m - state[:, :3]
    spread = covariance[:, :3, :3] + noise_m2
    inverse = np.linalg.inv(spread)
    gain = covariance[:, :, :3] @ inverse  # (K, D, 3)
    kept = np.broadcast_to(np.eye(state.shape[1]), covariance.shape).copy()
    kept[:, :, :3] -= gain
    after = kept @ covariance @ kept.swapaxes(1, 2) + gain @ noise_m2 @ gain.swapaxes(1, 2)
    distance = np.einsum("ki,kij,kj->k", residual, inverse, residual)
    likelihood = -0.5 * (distance + np.linalg.slogdet(2 * np.pi * spread)[1])
    corrected = state + (gain @ residual[..., None])[..., 0]
    return corrected, np.asarray(after), np.asarray(likelihood)


def squared_distances(
    position_m: Floats,  # (E, 3)
    covariance_m2: Floats,  # (E, 3, 3)
    measured_m: Floats,  # (D, 3)
    noise_m2: Floats,  # (D, 3, 3)
) -> Floats:  # (E, D)
    """Return Mahalanobis' squared distance of every element from every measurement."""
    residual = measured_m - position_m[:, None]  # (E, D, 3)
    spread = covariance_m2[:, None] + noise_m2  # (E, D, 3, 3)
    solved = np.linalg.solve(spread, residual[..., None])[..., 0]
    return np.asarray((residual * solved).sum(-1))


def seen_gaps(
    position_m: Floats,  # (E, 3)
    covariance_m2: Floats,  # (E, 3, 3)
    measured_m: Floats,  # (D, 3)
    noise_m2: Floats,  # (D, 3, 3)
    camera_m: Floats,  # (D, 3) of each measurement
) -> tuple[Floats, Floats]:  # (E, D), (E, D)
    """Return Mahalanobis' squared distance in direction and log range, and its log determinant.

    Errors of a measured range grow with it. Seen from the camera, a far measurement with an error
    of a third of its range does not agree with an element at a tenth of it; as a normal
    distribution in metres, it agrees with all that lies near the camera. Both spreads are turned
    with their lines of sight: an unsure range is no unsure direction. For small gaps the distance
    is that of ``squared_distances``. The determinant is that of the spread of the gap.
    """
    old = position_m[:, None] - camera_m  # (E, D, 3) lines of sight
    new = measured_m - camera_m  # (D, 3)
    old_m = np.maximum(np.linalg.norm(old, axis=-1, keepdims=True), _NEAREST_M)
    new_m = np.maximum(np.linalg.norm(new, axis=-1, keepdims=True), _NEAREST_M)
    old, new = old / old_m, new / new_m
    middle = old + new
    middle = middle / np.maximum(np.linalg.norm(middle, axis=-1, keepdims=True), 1e-9)
    residual = new - old + np.log(new_m / old_m) * middle
    # Directions and logarithms change with a position by its change divided by the range.
    spread = _turned(covariance_m2[:, None], old, middle) / old_m[..., None] ** 2
    spread = spread + _turned(noise_m2, new, middle) / new_m[..., None] ** 2
    solved = np.linalg.solve(spread, residual[..., None])[..., 0]
    return np.asarray((residual * solved).sum(-1)), np.asarray(np.linalg.slogdet(spread)[1])


def _turned(
    covariance: Floats,  # (..., 3, 3)
    start: Floats,  # (..., 3) direction, at most 1 long
    end: Floats,  # (E, D, 3) direction, at most 1 long, less than a half turn away
) -> Floats:  # (E, D, 3, 3)
    """Return covariances turned by the smallest rotation that takes one direction to another."""
    x, y, z = np.moveaxis(np.cross(start, end), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).reshape(*x.shape, 3, 3)
    cosine = (start * end).sum(-1)[..., None, None]
    rotation = np.eye(3) + cross + cross @ cross / np.maximum(1 + cosine, 1e-9)
    return np.asarray(rotation @ covariance @ rotation.swapaxes(-1, -2))


def measurement_noise(
    position_m: Floats,  # (D, 3)
    covariance_m2: Floats,  # (D, 3, 3)
    camera_m: Floats,  # (D, 3) place of the camera, in the same frame
    *,
    range_inflation: float,
    bearing_sigma_rad: float,
) -> Floats:  # (D, 3, 3)
    """Return the noise of measured positions for a filter that takes errors as independent.

    The standard deviation along the line of sight is multiplied, and a smallest error of the
    direction is added. Covariances that are not positive are mended.
    """
    symmetric = (covariance_m2 + covariance_m2.swapaxes(1, 2)) / 2
    values, vectors = np.linalg.eigh(np.clip(symmetric, -1e6, 1e6))
    values = np.clip(values, 1e-6, 1e6)
    covariance = (vectors * values[:, None]) @ vectors.swapaxes(1, 2)
    sight = position_m - camera_m
    distance = np.maximum(np.linalg.norm(sight, axis=1), 1e-6)
    direction = sight / distance[:, None]
    along = np.einsum("di,dij,dj->d", direction, covariance, direction)
    outer = direction[:, :, None] * direction[:, None]
    across = (bearing_sigma_rad * distance) ** 2
    extra = (range_inflation**2 - 1) * along
    return np.asarray(covariance + extra[:, None, None] * outer + across[:, None, None] * np.eye(3))
