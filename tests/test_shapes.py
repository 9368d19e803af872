"""The shape check, and the expected and given shapes in its error."""

import numpy as np
import pytest

from bevstack.shapes import expect_shape


def test_named_axes_are_bound_to_sizes_and_must_agree():
    sizes = expect_shape("value", np.zeros((2, 5, 3)), ("B", "S", 3))
    assert sizes == {"B": 2, "S": 5}
    assert expect_shape("weights", np.zeros((2, 7)), ("B", "Q"), sizes) == {"B": 2, "S": 5, "Q": 7}
    assert sizes == {"B": 2, "S": 5}


def test_leading_axes_are_free():
    for leading in ((), (4,), (4, 1, 2)):
        assert expect_shape("pose", np.zeros((*leading, 4, 4)), ("...", 4, 4)) == {}


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 3), (2,), ()])
def test_the_error_of_a_wrong_shape_names_the_bound_sizes(shape):
    with pytest.raises(ValueError, match=r"weights must have shape \(B=2, Q\); got") as error:
        expect_shape("weights", np.zeros(shape), ("B", "Q"), {"B": 2})
    assert str(shape) in str(error.value)


def test_too_few_axes_after_the_leading_ones_are_refused():
    with pytest.raises(ValueError, match="points must have shape"):
        expect_shape("points", np.zeros((3,)), ("...", "P", 3))


def test_a_name_used_twice_must_agree_within_one_tensor():
    with pytest.raises(ValueError, match="square"):
        expect_shape("square", np.zeros((3, 4)), ("N", "N"))
