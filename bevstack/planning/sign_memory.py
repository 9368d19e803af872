"""Meanings of signs over frames, and the signs that stay valid after they were passed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.types.cues import TrafficCue
from bevstack.vocabulary import SIGN_MEANINGS

Floats = NDArray[np.float64]

_INDEPENDENCE = 0.5  # share of a frame's evidence that is new: a plate looks alike in all frames
_CONFUSION = 0.02  # probability that a frame's scores carry no information
# Meanings that go on after the sign; a later sign of the same kind replaces an earlier one.
_KINDS = {
    "speed_limit": "speed",
    "no_left_turn": "left",
    "no_right_turn": "right",
    "no_u_turn": "turn back",
}


def meaning_evidence(
    meaning: Floats,  # (E, len(SIGN_MEANINGS)) the head's probabilities
    scores: Floats,  # (E,) probability that the box shows the sign
) -> Floats:  # (E, len(SIGN_MEANINGS)) log-likelihoods up to a constant
    """Return a frame's evidence for each meaning; balanced training leaves equal shares."""
    ratio = meaning * len(SIGN_MEANINGS)
    weight = (np.clip(scores, 0, 1) * (1 - _CONFUSION))[:, None]
    return np.asarray(_INDEPENDENCE * np.log(weight * ratio + (1 - weight)))


def meaning_probabilities(evidence: Floats) -> Floats:  # (E, len(SIGN_MEANINGS))
    """Return the probability of each meaning from summed evidence."""
    shifted = np.exp(evidence - evidence.max(1, keepdims=True, initial=-np.inf))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


@dataclass(frozen=True)
class SignInForce:
    """A sign that was passed and still applies."""

    cue: TrafficCue  # of the frame in which it was passed
    driven_m: float = 0.0  # since then


def update_signs_in_force(
    signs: tuple[SignInForce, ...],
    passed: tuple[TrafficCue, ...],
    *,
    step_m: float,
    junction_passed: bool,
    limit_m: float,
) -> tuple[SignInForce, ...]:
    """Return the signs in force after a step.

    They end at a junction, after ``limit_m``, or when a sign of the same kind is passed. A limit of
    0 or a number that is not known ends an earlier speed limit as any other.
    """
    kept = () if junction_passed else signs
    new = tuple(cue for cue in passed if cue.meaning in _KINDS)
    replaced = {_KINDS[cue.meaning] for cue in new if cue.meaning is not None}
    moved = tuple(replace(sign, driven_m=sign.driven_m + step_m) for sign in kept)
    lasting = tuple(
        sign
        for sign in moved
        if sign.driven_m <= limit_m and _KINDS[sign.cue.meaning or ""] not in replaced
    )
    return lasting + tuple(SignInForce(cue) for cue in new)
