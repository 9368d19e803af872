"""The fit finds the parameters that errors are drawn with; coverage counts what it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from bevstack.evaluation.uncertainty.coverage import (
    calibration_error,
    coverages,
    wrapped_level,
)
from bevstack.evaluation.uncertainty.fit import (
    fit_axis_spread,
    fit_logistic,
    fit_model,
    fit_spread,
)
from bevstack.evaluation.uncertainty.matched import NO_TRUTH, MatchedBoxes, errors_of
from bevstack.evaluation.uncertainty.scaled import uncertainty_of
from bevstack.types import Boxes3D, Detections
from bevstack.uncertainty.calibration import GROUPS, group_numbers
from bevstack.uncertainty.model import DETECTION_SPREADS, log_spread
from bevstack.vocabulary import DETECTION_CLASSES
from tests.uncertainty.models import odd_model

COUNT = 20_000
# Standard error of a parameter with 20,000 errors and five groups is about 0.02: five of them.
TOLERANCE = 0.1


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator]:
    """Return features, groups and parameters, and a generator."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(COUNT, 3, generator=random, dtype=torch.float64)
    group = torch.randint(0, len(GROUPS), (COUNT,), generator=random)
    wanted = torch.tensor([-1.0, -0.5, 0.3, 0.1, -0.8, 0.4, -0.3, 0.2], dtype=torch.float64)
    return features, group, wanted, random


def test_the_fit_finds_the_deviations_that_errors_are_drawn_with() -> None:
    features, group, wanted, random = drawn(1)
    spread = log_spread(wanted, features, group).exp()
    errors = spread[:, None] * torch.randn(COUNT, 2, generator=random, dtype=torch.float64)
    errors[::7] = math.nan  # unknown ones have no effect
    found = fit_spread(errors, features, group)
    torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)


def test_the_fit_of_axes_finds_deviations_beyond_which_errors_wrap() -> None:
    features, group, wanted, random = drawn(2)
    spread = log_spread(wanted, features * 0.5, group).exp()
    assert float((spread > 0.8).double().mean()) > 0.3  # many wrap
    errors = spread * torch.randn(COUNT, generator=random, dtype=torch.float64)
    wrapped = torch.remainder(errors + math.pi / 2, math.pi) - math.pi / 2
    found = fit_axis_spread(wrapped, features * 0.5, group)
    # An axis of which nothing is known gives little evidence of its deviation.
    torch.testing.assert_close(found, wanted, rtol=0, atol=2 * TOLERANCE)


def test_the_fit_of_axes_follows_its_gradient_at_large_and_small_errors() -> None:
    """Errors of one size: the deviation of the greatest likelihood is that size."""
    features, group = torch.zeros(500, 3, dtype=torch.float64), torch.zeros(500, dtype=torch.int64)
    for size in (0.01, 0.3):
        found = fit_axis_spread(torch.full((500,), size, dtype=torch.float64), features, group)
        assert float(found[0].exp()) == pytest.approx(size, rel=0.02)  # the weak prior


def test_wrapped_levels_are_uniform_for_wrapped_normal_errors() -> None:
    random = np.random.default_rng(3)
    deviation = random.uniform(0.05, 1.5, 4000)
    errors = random.normal(0, deviation)
    wrapped = np.remainder(errors + np.pi / 2, np.pi) - np.pi / 2
    levels = wrapped_level(torch.from_numpy(wrapped), torch.from_numpy(deviation))
    assert kstest(levels.numpy(), "uniform").pvalue > 0.01


def test_the_logistic_fit_finds_the_probability_that_labels_are_drawn_with() -> None:
    random = np.random.default_rng(4)
    logits = random.normal(-1, 2, COUNT)
    labels = random.random(COUNT) < 1 / (1 + np.exp(-(0.7 + 1.6 * logits)))
    assert fit_logistic(logits, labels) == pytest.approx((0.7, 1.6), abs=TOLERANCE)
    assert fit_logistic(logits[:0], labels[:0]) == pytest.approx((0.0, 1.0))


def simulated(seed: int, *, covariance: torch.Tensor | None = None) -> MatchedBoxes:
    """Return boxes whose errors have the uncertainty of an odd model; a third has no true box."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=random, dtype=torch.float64)

    count = 6000
    center = torch.cat((uniform(-40, 40, count, 2), uniform(0, 1, count, 1)), 1)
    boxes = Boxes3D(
        center + torch.tensor([500.0, 900.0, 0.0]),
        uniform(2, 5, count, 3),
        uniform(-3, 3, count),
        uniform(-4, 4, count, 2),
    )
    labels = torch.randint(0, len(DETECTION_CLASSES), (count,), generator=random)
    scores = uniform(0.05, 0.95, count)
    ego = torch.tensor([500.0, 900.0], dtype=torch.float64).expand(count, 2)
    truth = torch.where(torch.rand(count, generator=random) < 0.33, NO_TRUTH, torch.arange(count))
    plain = MatchedBoxes(
        Detections(boxes, scores, labels, DETECTION_CLASSES),
        ego,
        covariance,
        torch.ones(count, dtype=torch.bool),
        truth,
        boxes,
    )
    known = uncertainty_of(odd_model(DETECTION_SPREADS, 7), plain)
    noise = torch.randn(count, 9, generator=random, dtype=torch.float64)
    state = (torch.linalg.cholesky(known.state) @ noise[:, :4, None])[..., 0]
    turned = math.pi * (torch.rand(count, generator=random) < known.flip)
    true = Boxes3D(
        boxes.center
        + torch.cat((state[:, :2], noise[:, 4:5] * known.elevation_m2.sqrt()[:, None]), 1),
        boxes.size + noise[:, 5:8] * known.size_m2.sqrt() * 0.2,  # sizes stay positive
        boxes.yaw + noise[:, 8] * known.yaw_rad2.sqrt() + turned,
        boxes.velocity + state[:, 2:],
    )
    return plain._replace(true_boxes=true)


def test_a_fitted_model_covers_other_boxes_and_finds_the_flips() -> None:
    model = fit_model(simulated(1))
    boxes = simulated(2)
    found = coverages(boxes, uncertainty_of(model, boxes))
    # Standard error of a share of 4,000 boxes: 0.008, of the fit as much again; three of both.
    for name in ("position", "elevation", "size", "velocity"):
        assert found[name].fitted == pytest.approx((0.5, 0.9), abs=0.035), name
        assert found[name].normal == pytest.approx((0.5, 0.9), abs=0.035), name
    assert found["yaw"].fitted == pytest.approx((0.5, 0.9), abs=0.035)
    assert found["position"].count == int(boxes.is_matched.sum())
    flipped = errors_of(boxes).flipped
    group = torch.tensor(group_numbers(GROUPS, DETECTION_CLASSES))[boxes.detections.labels]
    for number in range(len(GROUPS)):
        share = float(flipped[group[boxes.is_matched] == number].double().mean())
        assert float(model.flip[number]) == pytest.approx(share, abs=0.06)


def test_errors_of_tracks_are_measured_in_units_of_the_trackers_covariance() -> None:
    """A model of tracks undoes a tracker that is wrong by constant factors."""
    boxes = simulated(3)
    known = uncertainty_of(odd_model(DETECTION_SPREADS, 7), boxes)
    factors = torch.tensor([0.5, 0.5, 3.0, 3.0], dtype=torch.float64)
    model = fit_model(boxes._replace(covariance=known.state * factors[:, None] * factors))
    log = math.log(2.0), -math.log(3.0)
    for name, wanted in zip(("position", "velocity"), log, strict=True):
        offsets = model.spreads[name][: len(GROUPS)]
        torch.testing.assert_close(offsets, torch.full_like(offsets, wanted), rtol=0, atol=0.12)
        slopes = model.spreads[name][len(GROUPS) :]
        assert float(slopes.abs().max()) < 0.1


def test_the_calibration_error_is_the_mean_gap_between_probability_and_share() -> None:
    probability = np.array([0.1, 0.1, 0.9, 0.9])
    correct = np.array([False, True, True, True])
    assert calibration_error(probability, correct) == pytest.approx(0.25)
