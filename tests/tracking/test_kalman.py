"""Kalman filters against the textbook's formulas in numpy, object by object."""

import numpy as np
import pytest
import torch

from bevstack.tracking import kalman

H = np.eye(4)


def draw(count, seed):
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(count, 4, 4))
    return generator.normal(size=(count, 4)) * 10, root @ root.transpose(0, 2, 1) + 0.1 * H


@pytest.mark.parametrize("count", [0, 1, 5])
def test_prediction_matches_the_textbook(count):
    state, covariance = draw(count, 0)
    result = kalman.predict(
        torch.from_numpy(state),
        torch.from_numpy(covariance),
        seconds=0.4,
        acceleration_mps2=1.7,
    )
    motion = np.array([[1, 0, 0.4, 0], [0, 1, 0, 0.4], [0, 0, 1, 0], [0, 0, 0, 1]])
    # Bar-Shalom, equation 6.3.2-4, for each of the two axes
    a, b, c = 0.4**4 / 4, 0.4**3 / 2, 0.4**2
    noise = 1.7**2 * np.array([[a, 0, b, 0], [0, a, 0, b], [b, 0, c, 0], [0, b, 0, c]])
    for i in range(count):
        np.testing.assert_allclose(result[0][i], motion @ state[i], rtol=1e-12)
        wanted = motion @ covariance[i] @ motion.T + noise
        np.testing.assert_allclose(result[1][i], wanted, rtol=1e-12)
    assert result[0].shape == (count, 4) and result[1].shape == (count, 4, 4)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_update_matches_the_textbook(count):
    state, covariance = draw(count, 1)
    measured, noise = draw(count, 2)
    result = kalman.update(*map(torch.from_numpy, (state, covariance, measured, noise)))
    for i in range(count):
        gain = covariance[i] @ H.T @ np.linalg.inv(H @ covariance[i] @ H.T + noise[i])
        wanted = state[i] + gain @ (measured[i] - H @ state[i])
        np.testing.assert_allclose(result[0][i], wanted, rtol=1e-8)
        wanted = (np.eye(4) - gain @ H) @ covariance[i]
        np.testing.assert_allclose(result[1][i], wanted, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(result[1][i], result[1][i].T, rtol=1e-9, atol=1e-12)
    assert result[0].shape == (count, 4) and result[1].shape == (count, 4, 4)


def test_errors_are_as_large_as_the_covariance_predicts():
    """Check that the normalised squared error of four numbers has mean 4 (Bar-Shalom, 5.4)."""
    generator = torch.Generator().manual_seed(0)
    count, seconds, acceleration = 4000, 0.5, 2.0

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    noise = torch.diag(torch.tensor([2.0, 0.3, 4.0, 1.0], dtype=torch.float64) ** 2)
    spread = noise.sqrt()
    true = torch.cat((normal(count, 2) * 20, normal(count, 2) * 5), 1)
    state, covariance = true + normal(count, 4) @ spread, noise.expand(count, 4, 4)
    for _ in range(8):
        push = normal(count, 2) * acceleration
        true = torch.cat(
            (true[:, :2] + seconds * true[:, 2:] + seconds**2 / 2 * push,
             true[:, 2:] + seconds * push), 1
        )  # fmt: skip
        state, covariance = kalman.predict(
            state, covariance, seconds=seconds, acceleration_mps2=acceleration
        )
        measured = true + normal(count, 4) @ spread
        state, covariance = kalman.update(state, covariance, measured, noise.expand(count, 4, 4))
    error = (state - true)[..., None]
    normalised = (error.mT @ torch.linalg.solve(covariance, error))[:, 0, 0]
    # The mean of 4,000 values of deviation sqrt(8) has deviation 0.045; allow four times that.
    assert normalised.mean().item() == pytest.approx(4, abs=0.18)
