"""Kalman filters of constant velocity on the ground plane, one for each of M objects.

R. E. Kalman, "A New Approach to Linear Filtering and Prediction Problems", 1960. The motion model
has piecewise constant random acceleration: Y. Bar-Shalom, X. R. Li and T. Kirubarajan, "Estimation
with Applications to Tracking and Navigation", 2001, section 6.3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor


def predict(
    state: Tensor,  # (M, 4) float64 x, y, vx, vy: metres and metres per second
    covariance: Tensor,  # (M, 4, 4)
    *,
    seconds: float,
    acceleration_mps2: float,  # standard deviation along each axis; constant in a step, mean 0
) -> tuple[Tensor, Tensor]:  # (M, 4), (M, 4, 4)
    """Predict states and covariances after a time step."""
    one = torch.eye(2, dtype=state.dtype, device=state.device)
    transition = torch.cat((torch.cat((one, seconds * one), 1), torch.cat((0 * one, one), 1)))
    gain = torch.cat((seconds**2 / 2 * one, seconds * one))  # (4, 2) state per acceleration
    process_noise = acceleration_mps2**2 * gain @ gain.T
    return state @ transition.T, transition @ covariance @ transition.T + process_noise


def update(
    state: Tensor,  # (M, 4) float64
    covariance: Tensor,  # (M, 4, 4)
    measurement: Tensor,  # (M, 4)
    noise: Tensor,  # (M, 4, 4) covariance of the measurement
) -> tuple[Tensor, Tensor]:  # (M, 4), (M, 4, 4)
    """Correct states with a measurement of all four of their components.

    The covariance uses Joseph's form, which stays symmetric and positive.
    """
    gain = torch.linalg.solve(covariance + noise, covariance).mT
    residual = torch.eye(4, dtype=state.dtype, device=state.device) - gain
    state = state + (gain @ (measurement - state)[..., None])[..., 0]
    return state, residual @ covariance @ residual.mT + gain @ noise @ gain.mT
