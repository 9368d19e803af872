"""Figures of cues by the scenes' weights: equal to the scores of scenes that are repeated."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.evaluation.traffic.cue_scores import RelevanceMoment, score_relevance
from bevstack.evaluation.traffic.resampling import DelayFigures, RelevanceFigures
from bevstack.evaluation.traffic.state_scores import StateSums, score_states

WEIGHTS = ([1, 1, 1], [0, 2, 1], [3, 0, 0], [0, 0, 3])


@pytest.mark.parametrize("weights", WEIGHTS)
def test_delays_are_those_of_the_scenes_as_often_as_they_are_drawn(weights: list[int]) -> None:
    sums = [
        StateSums(red_delays_s=(0.2, np.inf), green_delays_s=(0.5,)),
        StateSums(red_delays_s=(0.1, 0.4, 0.3), green_delays_s=(1.5, 0.1)),
        StateSums(red_delays_s=(0.05,)),
    ]
    drawn = [one for one, weight in zip(sums, weights, strict=True) for _ in range(weight)]
    scores = score_states(sum(drawn, start=StateSums()))
    figures = DelayFigures(sums)
    wanted = {
        "delay to red, median, s": scores.red_delay_median_s,
        "delay to red, 95 %, s": scores.red_delay_95_s,
        "delay to green, median, s": scores.green_delay_median_s,
        "delay to green, 95 %, s": scores.green_delay_95_s,
    }
    found = figures.figures(np.array(weights))
    np.testing.assert_array_equal(found, list(wanted.values()))
    assert figures.names == tuple(wanted) and figures.num_scenes == 3


def moment(relevance: list[float], governs: list[bool], states: list[str]) -> RelevanceMoment:
    return RelevanceMoment(
        relevance=np.array(relevance), governs=np.array(governs), states=tuple(states)
    )


@pytest.mark.parametrize("weights", WEIGHTS)
def test_relevance_is_that_of_the_scenes_as_often_as_they_are_drawn(weights: list[int]) -> None:
    scenes = [
        [moment([0.9, 0.6], [True, False], ["red", "green"])],
        [
            moment([0.2, 0.3, 0.1], [True, False, False], ["red", "green", "red"]),
            moment([0.9, 0.9], [True, False], ["red", "red"]),  # lanes do not differ: not counted
        ],
        [],
    ]
    drawn = [m for some, w in zip(scenes, weights, strict=True) for _ in range(w) for m in some]
    scores = score_relevance(drawn)
    figures = RelevanceFigures(scenes)
    found = figures.figures(np.array(weights))
    np.testing.assert_allclose(
        found, [scores.choice_accuracy, scores.decision_accuracy], rtol=1e-12
    )
    assert figures.names == ("relevant light chosen", "relevance right for a light")
