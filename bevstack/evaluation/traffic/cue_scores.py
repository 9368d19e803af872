"""Scores of relevance, advice and distance: the parts of a cue that a planner acts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.state_scores import GREEN_STATES, RED_STATES
from bevstack.types.cues import GO, STOP, UNKNOWN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RELEVANT = 0.5  # probability from which an element counts as relevant
WANTED_ADVICE_SHARE = 0.90
GO_STATES = ("green",)  # that call for go; red ones call for stop, the remaining ones for caution
# Distances in metres around which errors are averaged: low end, high end.
DISTANCE_BANDS_M = ((0, 10), (10, 15), (15, 25), (25, 40), (40, 60), (60, 100))


@dataclass(frozen=True, kw_only=True)
class RelevanceMoment:
    """The E lights in sight at one time."""

    relevance: Floats  # (E,) probability that each governs the ego's lane and manoeuvre
    governs: Bools  # (E,) True: it does
    states: tuple[str, ...]  # E true states; "unknown": not known

    @property
    def lanes_differ(self) -> bool:
        """Return True if a light of another lane or manoeuvre shows a state that no own one shows.

        Only such moments can show that relevance is known: otherwise any light gives the answer.
        """
        pairs = list(zip(self.states, self.governs.tolist(), strict=True))
        own = {state for state, governs in pairs if governs and state != UNKNOWN}
        foreign = {state for state, governs in pairs if not governs and state != UNKNOWN}
        return bool(own) and bool(foreign - own)


@dataclass(frozen=True, kw_only=True)
class RelevanceScores:
    """Accuracy of relevance over moments in which neighbouring lanes differ; NaN without any."""

    num_moments: int
    choice_accuracy: float  # share of moments in which the most relevant light governs
    decision_accuracy: float  # share of lights whose relevance is right at RELEVANT
    num_lights: int


def score_relevance(moments: Sequence[RelevanceMoment]) -> RelevanceScores:
    """Score the moments in which neighbouring lanes differ.

    The choice of a moment is its light of the highest relevance, the first of equals.
    """
    moments = [moment for moment in moments if moment.lanes_differ]
    choices = [bool(moment.governs[int(moment.relevance.argmax())]) for moment in moments]
    decisions = [((m.relevance >= RELEVANT) == m.governs).tolist() for m in moments]
    flat = [right for some in decisions for right in some]
    return RelevanceScores(
        num_moments=len(moments),
        choice_accuracy=float(np.mean(choices)) if choices else float("nan"),
        decision_accuracy=float(np.mean(flat)) if flat else float("nan"),
        num_lights=len(flat),
    )


@dataclass(frozen=True, kw_only=True)
class AdviceTimes:
    """The advice for the intended manoeuvre at N times of a scene, beside the true state.

    Advice and state hold until the next time; the last time has no duration.
    """

    timestamp_us: Ints  # (N,) ascending
    advice: tuple[str, ...]  # N of ADVICE
    states: tuple[str, ...]  # N true states of the light that governs; "unknown": none in sight


@dataclass(frozen=True, kw_only=True)
class AdviceScores:
    """Scores of advice; NaN where nothing was counted."""

    known_s: float  # seconds in which the true state is known
    given_share: float  # of them, with the advice go or stop; at least 0.90 is wanted
    unknown_share: float  # of them, with the advice unknown
    go_or_stop_due_s: float  # of them, in which go or stop is right, not caution
    right_share: float  # of those, with the right one of both
    red_s: float
    false_go_per_red_s: float  # share of the red seconds with the advice go
    green_s: float
    false_stop_per_green_s: float


def score_advice(parts: Sequence[AdviceTimes]) -> AdviceScores:
    """Score the advice of several scenes by seconds."""
    known = given = no_advice = due = right = red = false_go = green = false_stop = 0.0
    for part in parts:
        seconds = np.diff(part.timestamp_us) * 1e-6
        states, advice = (np.array(v)[: len(seconds)] for v in (part.states, part.advice))
        is_red, is_green = np.isin(states, RED_STATES), np.isin(states, GREEN_STATES)
        is_known, calls_for_go = states != UNKNOWN, np.isin(states, GO_STATES)
        known += seconds[is_known].sum()
        given += seconds[is_known & np.isin(advice, (GO, STOP))].sum()
        no_advice += seconds[is_known & (advice == UNKNOWN)].sum()
        due += seconds[is_red | calls_for_go].sum()
        right += seconds[(is_red & (advice == STOP)) | (calls_for_go & (advice == GO))].sum()
        red += seconds[is_red].sum()
        false_go += seconds[is_red & (advice == GO)].sum()
        green += seconds[is_green].sum()
        false_stop += seconds[is_green & (advice == STOP)].sum()
    return AdviceScores(
        known_s=float(known),
        given_share=_share(given, known),
        unknown_share=_share(no_advice, known),
        go_or_stop_due_s=float(due),
        right_share=_share(right, due),
        red_s=float(red),
        false_go_per_red_s=_share(false_go, red),
        green_s=float(green),
        false_stop_per_green_s=_share(false_stop, green),
    )


@dataclass(frozen=True, kw_only=True)
class DistanceError:
    """The errors of distances whose true value lies in a band."""

    low_m: float
    high_m: float  # not included
    count: int
    median_relative: float  # of |predicted - true| / true; NaN without any
    mean_relative: float


def distance_errors(
    true_m: Floats,  # (N,)
    predicted_m: Floats,  # (N,)
    bands_m: Sequence[tuple[float, float]] = DISTANCE_BANDS_M,
) -> tuple[DistanceError, ...]:
    """Return the relative errors of distances by true distance."""
    errors = []
    for low, high in bands_m:
        rows = (true_m >= low) & (true_m < high) & (true_m > 0)
        relative = np.abs(predicted_m[rows] - true_m[rows]) / true_m[rows]
        some = bool(rows.any())
        errors.append(
            DistanceError(
                low_m=low,
                high_m=high,
                count=int(rows.sum()),
                median_relative=float(np.median(relative)) if some else float("nan"),
                mean_relative=float(np.mean(relative)) if some else float("nan"),
            )
        )
    return tuple(errors)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
