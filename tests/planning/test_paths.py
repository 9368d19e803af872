"""Predicted paths equal the closed form of a circle, a numeric integration and the tracker's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bevstack.planning.paths import PredictedPaths, estimate_turn_rate, predict_paths
from bevstack.tracking import kalman

RATES = (-1.7, -0.3, -1e-3, -1e-9, 0.0, 1e-12, 1e-4, 0.05, 0.33, 0.34, 2.0)


def states(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return states, covariances and headings."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, 4, 4))
    state = rng.normal(size=(count, 4)) * (30, 30, 8, 8)
    return state, root @ root.swapaxes(-1, -2), rng.uniform(-3, 3, count)


def predict(rates: np.ndarray, *, std: float = 0.0, **options: float) -> PredictedPaths:
    state, covariance, yaw = states(1, len(rates))
    return predict_paths(state, covariance, yaw, rates, np.full(len(rates), std), **options)


def motion(value: np.ndarray, rate: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
    """Return d/dt of (x, y, vx, vy, angle), for K cases; the acceleration turns with the object."""
    _, _, vx, vy, angle = value
    cos, sin = np.cos(angle), np.sin(angle)
    ax = cos * acceleration[0] - sin * acceleration[1]
    ay = sin * acceleration[0] + cos * acceleration[1]
    return np.stack((vx, vy, -rate * vy + ax, rate * vx + ay, rate))


def integrate(cases: np.ndarray, time_s: float) -> np.ndarray:
    """Integrate (7, K) states, turn rates and accelerations by Runge-Kutta's rule, 200 steps."""
    value, step = np.concatenate((cases[:4], np.zeros_like(cases[:1]))), time_s / 200
    rest = (cases[4], cases[5:])
    for _ in range(200):
        k1 = motion(value, *rest)
        k2 = motion(value + step / 2 * k1, *rest)
        k3 = motion(value + step / 2 * k2, *rest)
        k4 = motion(value + step * k3, *rest)
        value = value + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return value[:4]


def test_a_path_is_the_arc_of_a_circle() -> None:
    """Radius = speed / turn rate, about the point at a right angle to the velocity."""
    rates = np.array([r for r in RATES if abs(r) > 1e-4])
    state, _, yaw = states(1, len(rates))
    paths = predict(rates)
    for row, rate in enumerate(rates):
        speed = math.hypot(*state[row, 2:])
        course = math.atan2(state[row, 3], state[row, 2])
        radius = speed / rate
        cx = state[row, 0] - radius * math.sin(course)
        cy = state[row, 1] + radius * math.cos(course)
        for moment, time in enumerate(paths.times_s):
            angle = course + rate * time
            expected = (cx + radius * math.sin(angle), cy - radius * math.cos(angle))
            # 1e-8: the radius is up to 1e5 m, of which the closed form loses 1e-13
            assert paths.position[row, moment] == pytest.approx(expected, abs=1e-8)
            heading = yaw[row] + rate * time - paths.yaw[row, moment]
            assert math.cos(heading) == pytest.approx(1, abs=1e-12)
    assert (np.abs(paths.yaw) <= math.pi).all()


@pytest.mark.parametrize("rate", RATES)
def test_a_path_and_its_covariance_equal_a_numeric_integration(rate: float) -> None:
    """The covariance is J P J^T with J by central differences of the integrated motion."""
    state, covariance, _ = (value[:1] for value in states(1, 1))
    paths = predict(np.array([rate]), std=0.07, acceleration_mps2=0.6, horizon_s=3, time_step_s=1.5)
    inputs = np.diag((*[1.0] * 4, 0.07, 0.6, 0.6)) ** 2
    inputs[:4, :4] = covariance[0]
    point = np.array((*state[0], rate, 0.0, 0.0))[:, None]
    step = 1e-4 * np.eye(7)
    for moment, time in enumerate(paths.times_s):
        arrived = integrate(point, time)[:, 0]
        # Runge-Kutta's error is (rate * step)^4, below 1e-9 at a step of 0.015 s
        assert paths.position[0, moment] == pytest.approx(arrived[:2], abs=1e-6)
        assert paths.velocity[0, moment] == pytest.approx(arrived[2:], abs=1e-6)
        jacobian = (integrate(point + step, time) - integrate(point - step, time)) / 2e-4
        expected = jacobian @ inputs @ jacobian.T
        # central differences err by 1e-8 relative
        assert paths.covariance[0, moment] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_without_a_turn_the_model_is_that_of_the_tracker() -> None:
    state, covariance, yaw = states(2, 5)
    none = np.zeros(5)
    paths = predict_paths(state, covariance, yaw, none, none, acceleration_mps2=1.3)
    for moment, time in enumerate(paths.times_s):
        mean, spread = kalman.predict(
            torch.from_numpy(state),
            torch.from_numpy(covariance),
            seconds=float(time),
            acceleration_mps2=1.3,
        )
        together = np.concatenate((paths.position[:, moment], paths.velocity[:, moment]), 1)
        assert together == pytest.approx(mean.numpy(), abs=1e-12)
        assert paths.covariance[:, moment] == pytest.approx(spread.numpy(), abs=1e-9)


def test_the_uncertainty_grows_and_a_turned_world_gives_turned_paths() -> None:
    rates = np.array(RATES)
    state, covariance, yaw = states(1, len(rates))
    state[3, 2:] = 0  # a standing object has no course
    isotropic = np.broadcast_to(np.diag((1, 1, 0.5, 0.5)), covariance.shape)
    std = np.full(len(rates), 0.1)
    paths = predict_paths(state, isotropic, yaw, rates, std)
    areas = np.linalg.det(paths.covariance[..., :2, :2])
    assert (np.diff(areas, axis=1) > 0).all()
    angle = 0.8
    turn = np.array(((math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))))
    both = np.kron(np.eye(2), turn)
    turned = predict_paths(state @ both.T, both @ isotropic @ both.T, yaw + angle, rates, std)
    assert turned.position == pytest.approx(paths.position @ turn.T, abs=1e-9)
    assert turned.covariance == pytest.approx(both @ paths.covariance @ both.T, abs=1e-9)


def test_a_turn_rate_is_found_in_headings() -> None:
    times = np.arange(5) * 0.5
    yaws = np.remainder(3.0 + 0.4 * times + math.pi, 2 * math.pi) - math.pi  # passes pi
    assert (np.diff(yaws) < 0).any()
    rate, std = estimate_turn_rate(times, yaws, heading_std_rad=1e-4)
    assert rate == pytest.approx(0.4, abs=1e-5) and std < 1e-3
    shuffled = np.array([3, 0, 4, 1, 2])
    again, _ = estimate_turn_rate(times[shuffled], yaws[shuffled], heading_std_rad=1e-4)
    assert again == pytest.approx(rate)
    # One heading holds no turn: the rate is that of the prior.
    assert estimate_turn_rate(times[:1], yaws[:1], prior_std_radps=0.3) == pytest.approx((0, 0.3))
    assert estimate_turn_rate(times[:0], yaws[:0], prior_std_radps=0.3) == (0, 0.3)


def test_the_deviation_of_a_turn_rate_is_that_of_repeated_estimates() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(4) * 0.5
    true = rng.normal(0, 0.2, 4000)
    found = [estimate_turn_rate(times, rate * times + rng.normal(0, 0.1, 4) + 1.0) for rate in true]
    errors = np.array([rate for rate, _ in found]) - true
    # a deviation from 4000 draws is known to 1.1 %
    assert errors.std() == pytest.approx(found[0][1], rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"yaw": np.zeros(3)}, "yaw must have shape"),
        ({"state": np.full((2, 4), np.nan)}, "state must be finite"),
        ({"time_step_s": 0.0}, "must be positive"),
        ({"horizon_s": 0.1}, "must be positive"),
    ],
)
def test_wrong_input_is_named(change: dict, message: str) -> None:
    state, covariance, yaw = states(0, 2)
    options = {"state": state, "covariance": covariance, "yaw": yaw} | change
    with pytest.raises(ValueError, match=message):
        predict_paths(**options, turn_rate=np.zeros(2), turn_rate_std=np.zeros(2))
    with pytest.raises(ValueError, match="equal length"):
        estimate_turn_rate(np.zeros(2), np.zeros(3))
