from __future__ import annotations

import numpy as np
import pytest

from bevstack.render.arrows import ARROW_S, MIN_ARROW_MPS, arrow_tip


def test_tip_is_where_the_start_will_be_at_the_same_height() -> None:
    start = np.array([3.0, -2.0, 0.7])
    tip = arrow_tip(start, np.array([4.0, -1.5]))
    np.testing.assert_allclose(tip, (3.0 + 4.0 * ARROW_S, -2.0 - 1.5 * ARROW_S, 0.7))
    np.testing.assert_array_equal(start, (3.0, -2.0, 0.7))  # unchanged
    np.testing.assert_allclose(arrow_tip(start[:2], np.array([0.0, 1.0])), (3.0, -2.0 + ARROW_S))


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (0.3, -0.3), (np.nan, np.nan), (np.nan, 9.0)])
def test_standing_and_unknown_have_no_arrow(velocity: tuple[float, float]) -> None:
    assert arrow_tip(np.zeros(3), np.array(velocity)) is None


def test_object_at_the_least_arrow_speed_has_an_arrow() -> None:
    assert arrow_tip(np.zeros(2), np.array([MIN_ARROW_MPS, 0.0])) is not None
