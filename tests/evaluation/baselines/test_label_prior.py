"""Labels without the picture: the most frequent ones of a place."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.evaluation.baselines.label_prior import LabelPrior


def test_the_label_of_a_place_is_that_of_most_pictures_there() -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 4, (7, 6, 10)).astype(np.uint8)
    maps[:, 2, 3] = 255
    prior = LabelPrior(5, cells=(6, 10))
    for own in maps:
        prior.add(own)
    want = [
        [max(range(5), key=lambda k, y=y, x=x: (maps[:, y, x] == k).sum()) for x in range(10)]
        for y in range(6)
    ]
    assert prior.label_map((6, 10)).tolist() == want
    assert prior.most_frequent() == max(range(5), key=lambda k: (maps == k).sum())
    assert prior.counts.sum() == 7 * 59
    np.testing.assert_array_equal(prior.label_map((12, 20))[::2, ::2], want)
    with pytest.raises(ValueError, match="labels must be below 5 or 255; got 5"):
        prior.add(np.full((6, 10), 5, np.uint8))
