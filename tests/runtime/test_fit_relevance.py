"""The fit of the weights of evidence, on moments whose true weights are known."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.evaluation.traffic.cue_scores import RelevanceMoment
from tools import fit_relevance as program
from tools.study_cues import chosen_variants

PIECES = program.PIECES
LEARNED, PLACE = PIECES.index("learned"), PIECES.index("lateral")


def moments(count: int, seed: int) -> list[program.Moment]:
    """Return moments in which the head alone is right, and the place repeats it with noise."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        governs = np.array([True, False, False])
        pieces = np.zeros((3, 2, len(PIECES)))
        pieces[..., LEARNED] = np.where(governs, 2.0, -2.0)[:, None] + rng.normal(0, 1.0, (3, 2))
        pieces[..., PLACE] = pieces[..., LEARNED] + rng.normal(0, 6.0, (3, 2))
        truth = RelevanceMoment(
            relevance=np.zeros(3), governs=governs, states=("red", "green", "yellow")
        )
        found.append(program.Moment(f"scene {number % 20}", pieces, truth))
    return found


def test_a_piece_that_repeats_the_head_with_noise_gets_a_small_factor() -> None:
    weights = program.fit(moments(600, seed=1))
    assert weights[LEARNED] > 1.0 and 0.0 <= weights[PLACE] < 0.3
    for name in program.FIXED:
        assert weights[PIECES.index(name)] == 1.0


def test_few_moments_leave_the_factors_near_one() -> None:
    weights = program.fit(moments(2, seed=2))
    np.testing.assert_allclose(weights[:-1], 1, atol=0.5)


def test_held_out_weights_choose_better_than_equal_ones() -> None:
    some = moments(200, seed=3)
    equal = [np.append(np.ones(len(PIECES)), -1.0)] * len(some)
    held = program.held_out(some)
    for commanded in (True, False):
        before = program.choice(some, equal, commanded=commanded)
        after = program.choice(some, held, commanded=commanded)
        assert after > before + 0.1 and after > 0.9


def test_a_moment_is_scored_without_its_own_fold() -> None:
    """Two folds: scenes take turns in the order of their names."""
    some = moments(100, seed=4)
    held = program.held_out(some, folds=2)
    names = sorted({moment.scene for moment in some})
    for number in (0, 1):
        remaining = [m for m in some if names.index(m.scene) % 2 != number]
        expected = program.fit(remaining)
        own = [w for m, w in zip(some, held, strict=True) if names.index(m.scene) % 2 == number]
        assert own and all(np.array_equal(weights, expected) for weights in own)


def test_a_light_without_a_cue_is_never_chosen_before_one_that_has_one() -> None:
    moment = moments(1, seed=5)[0]
    moment.pieces[0] = np.nan
    weights = np.append(np.ones(len(PIECES)), -1.0)
    assert int(moment.log_odds(weights, commanded=True).argmax()) != 0


def test_rows_of_the_study_are_chosen_by_name() -> None:
    assert list(chosen_variants(["all", "without arrow"])) == ["all", "without arrow"]
    with pytest.raises(ValueError, match=r"--rows must be of all, .*; got 'none'"):
        chosen_variants(["none"])
