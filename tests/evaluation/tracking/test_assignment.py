"""Assignment of least total cost against scipy: equal pairs, also where totals are equal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from bevstack.evaluation.tracking.assignment import NONE, assign


@pytest.mark.parametrize("values", [2, 5, 10**6], ids=["many ties", "some ties", "hardly any"])
def test_pairs_equal_those_of_scipy(values: int) -> None:
    rng = np.random.default_rng(values)
    for _ in range(300):
        rows, columns = rng.integers(1, 8, 2)
        cost = rng.integers(0, values, (rows, columns)).astype(np.float64)
        cost[rng.random(cost.shape) < 0.3] = 2 * min(rows, columns) * values + 1
        expected = np.full(rows, NONE)
        row, column = linear_sum_assignment(cost)
        expected[row] = column
        assert assign(cost).tolist() == expected.tolist()
