from __future__ import annotations

import math

import numpy as np
import pytest

from bevstack.evaluation.analysis.calibration import reliabilities
from tests.evaluation.detection3d.test_evaluator import at, columns, truth


def test_error_is_the_mean_distance_of_precision_from_score() -> None:
    wanted = truth(at(0.0), at(10.0), at(20.0))
    predictions = columns(
        at(0.5, score=0.9),  # right
        at(10.5, score=0.92),  # right
        at(30.0, score=0.95),  # wrong
        at(40.0, score=0.3),  # wrong
    )
    reliability = {r.name: r for r in reliabilities(predictions, wanted, bins=10)}
    car = reliability["car"]
    assert car.count.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 3]
    assert car.precision[9] == pytest.approx(2 / 3)
    assert car.confidence[9] == pytest.approx((0.9 + 0.92 + 0.95) / 3)
    gap = 3 * abs(2 / 3 - (0.9 + 0.92 + 0.95) / 3) + 0.3
    assert car.expected_calibration_error == pytest.approx(gap / 4)
    assert reliability["all"].expected_calibration_error == car.expected_calibration_error
    assert math.isnan(reliability["bus"].expected_calibration_error)
    assert np.isnan(car.precision[:3]).all()


def test_boxes_of_a_class_without_truth_are_wrong_and_high_scores_count_last() -> None:
    reliability = {
        r.name: r
        for r in reliabilities(columns(at(0.0, name="bus", score=3.0)), truth(at(0.0)), bins=5)
    }
    assert reliability["bus"].count.tolist() == [0, 0, 0, 0, 1]
    assert reliability["bus"].precision[4] == 0.0


def test_scores_that_equal_the_precision_have_no_calibration_error() -> None:
    draw = np.random.default_rng(0)
    boxes, wanted = [], []
    for number in range(400):
        score, x = float(draw.uniform()), 0.1 * number
        wanted.append({"translation": (x, 0.0, 0.0), "sample": 0})
        aside = 0.0 if draw.random() < score else 20.0
        boxes.append({"translation": (x, aside, 0.0), "score": score})
    for box in (*boxes, *wanted):
        box["translation"] = (box["translation"][0], box["translation"][1], 0.0)
    all_boxes = next(iter(reliabilities(columns(*boxes), truth(*wanted))))
    # a binomial share of some 27 boxes a bin errs by 0.1 at most, 0.06 in the mean
    assert all_boxes.expected_calibration_error < 0.1
