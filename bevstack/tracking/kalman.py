"""Kalman filters of constant velocity on the ground plane, one for each of M objects.

R. E. Kalman, "A New Approach to Linear Filtering and Prediction Problems", 1960; the motion with
piecewise constant random acceleration as in Y. Bar-Shalom, X. R. Li and T. Kirubarajan, "Estimation
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
    acceleration_mps2: float,  # its deviation along each axis; constant in between, mean 0
) -> tuple[Tensor, Tensor]:  # (M, 4), (M, 4, 4)
    """What the states are expected to be after some time."""
    one = torch.eye(2, dtype=state.dtype, device=state.device)
    motion = torch.cat((torch.cat((one, seconds * one), 1), torch.cat((0 * one, one), 1)))
    push = torch.cat((seconds**2 / 2 * one, seconds * one))  # (4, 2) of an acceleration
    noise = acceleration_mps2**2 * push @ push.T
    return state @ motion.T, motion @ covariance @ motion.T + noise


def update(
    state: Tensor,  # (M, 4) float64
    covariance: Tensor,  # (M, 4, 4)
    measured: Tensor,  # (M, 4)
    noise: Tensor,  # (M, 4, 4) covariance of what was measured
) -> tuple[Tensor, Tensor]:  # (M, 4), (M, 4, 4)
    """The states once all four of their numbers are measured.

    The covariance is in Joseph's form, which stays symmetric and positive.
    """
    gain = torch.linalg.solve(covariance + noise, covariance).mT
    kept = torch.eye(4, dtype=state.dtype, device=state.device) - gain
    state = state + (gain @ (measured - state)[..., None])[..., 0]
    return state, kept @ covariance @ kept.mT + gain @ noise @ gain.mT
