from __future__ import annotations

import math

import numpy as np
import pytest

from bevstack.evaluation.traffic.cue_scores import (
    AdviceTimes,
    RelevanceMoment,
    distance_errors,
    score_advice,
    score_relevance,
)


def moment(*lights: tuple[float, bool, str]) -> RelevanceMoment:
    relevance, governs, states = zip(*lights, strict=True)
    return RelevanceMoment(relevance=np.array(relevance), governs=np.array(governs), states=states)


def test_relevance_is_scored_only_where_lanes_differ() -> None:
    right = moment((0.9, True, "red"), (0.2, False, "green"))
    wrong = moment((0.4, True, "red"), (0.8, False, "green"), (0.1, False, "red"))
    same = moment((0.1, True, "red"), (0.9, False, "red"))
    unknown = moment((0.1, True, "red"), (0.9, False, "unknown"))
    no_own = moment((0.9, False, "red"), (0.8, False, "green"))
    assert [m.lanes_differ for m in (right, wrong, same, unknown, no_own)] == [
        True,
        True,
        *[False] * 3,
    ]
    scores = score_relevance([right, wrong, same, unknown, no_own])
    assert (scores.num_moments, scores.num_lights) == (2, 5)
    assert scores.choice_accuracy == 0.5
    assert scores.decision_accuracy == pytest.approx(3 / 5)
    assert math.isnan(score_relevance([same]).choice_accuracy)


@pytest.mark.parametrize("seed", range(3))
def test_advice_equals_a_loop_over_intervals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = ("red", "green", "unknown", "yellow", "flashing_red", "off")
    parts = [
        AdviceTimes(
            timestamp_us=np.cumsum(rng.integers(1, 900_000, 20)),
            advice=tuple(rng.choice(["go", "stop", "caution", "unknown"], 20).tolist()),
            states=tuple(rng.choice(states, 20).tolist()),
        )
        for _ in range(2)
    ]
    names = ("known", "given", "unknown", "due", "right", "red", "false_go", "green", "false_stop")
    sums = dict.fromkeys(names, 0.0)
    due = {"red": "stop", "flashing_red": "stop", "green": "go"}  # the remaining ones: caution
    for part in parts:
        for i in range(19):
            seconds = (part.timestamp_us[i + 1] - part.timestamp_us[i]) / 1e6
            advice, state = part.advice[i], part.states[i]
            sums["known"] += seconds * (state != "unknown")
            sums["given"] += seconds * (state != "unknown" and advice in ("go", "stop"))
            sums["unknown"] += seconds * (state != "unknown" and advice == "unknown")
            sums["due"] += seconds * (state in due)
            sums["right"] += seconds * (state in due and advice == due[state])
            sums["red"] += seconds * (state in ("red", "flashing_red"))
            sums["false_go"] += seconds * (state in ("red", "flashing_red") and advice == "go")
            sums["green"] += seconds * (state == "green")
            sums["false_stop"] += seconds * (state == "green" and advice == "stop")
    scores = score_advice(parts)
    assert scores.known_s == pytest.approx(sums["known"])
    assert scores.given_share == pytest.approx(sums["given"] / sums["known"])
    assert scores.unknown_share == pytest.approx(sums["unknown"] / sums["known"])
    assert scores.go_or_stop_due_s == pytest.approx(sums["due"])
    assert scores.right_share == pytest.approx(sums["right"] / sums["due"])
    assert scores.red_s == pytest.approx(sums["red"])
    assert scores.false_go_per_red_s == pytest.approx(sums["false_go"] / sums["red"])
    assert scores.false_stop_per_green_s == pytest.approx(sums["false_stop"] / sums["green"])
    assert math.isnan(score_advice([]).given_share)


def test_go_is_not_due_while_green_flashes() -> None:
    """The table of advice gives caution to flashing green, though it counts as green elsewhere."""
    times = np.array([0, 1_000_000, 3_000_000])
    part = AdviceTimes(
        timestamp_us=times, advice=("caution", "go", "go"), states=("flashing_green", "green", "")
    )
    scores = score_advice([part])
    assert scores.go_or_stop_due_s == 2.0 and scores.right_share == 1.0
    assert scores.green_s == 3.0 and scores.given_share == pytest.approx(2 / 3)


def test_distance_errors_are_relative_to_the_true_distance() -> None:
    true_m, predicted_m = np.array([16.0, 20, 24, 50]), np.array([16.8, 24.0, 24.0, 40.0])
    errors = distance_errors(true_m, predicted_m, ((15, 25), (25, 40), (40, 60)))
    assert [e.count for e in errors] == [3, 0, 1]
    assert errors[0].median_relative == pytest.approx(0.05)
    assert errors[0].mean_relative == pytest.approx(0.25 / 3)
    assert math.isnan(errors[1].mean_relative) and errors[2].mean_relative == pytest.approx(0.2)
