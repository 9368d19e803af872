from __future__ import annotations

import numpy as np
import pytest

from bevstack.evaluation.detection3d.ordering import best_first


def by_python(score: np.ndarray) -> list[int]:
    """Sort with the devkit's expression."""
    pairs = ((value, row) for row, value in enumerate(score.tolist()))
    return [row for _, row in sorted(pairs)][::-1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_the_order_is_that_of_sorted_pairs_reversed(count: int) -> None:
    draw = np.random.default_rng(count)
    for score in (
        draw.random(count),
        draw.normal(0, 1, count),
        draw.choice([0.0, -0.0, 0.5, -0.5, np.inf, -np.inf, 5e-324, -5e-324], count),
        draw.random(count).astype(np.float32).astype(np.float64),
        np.full(count, 0.25),
    ):
        assert best_first(score).tolist() == by_python(score)
