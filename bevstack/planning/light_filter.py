"""Hidden Markov filter of traffic lights: states, transitions, likelihoods of images.

The hidden state is a colour with its flashing, times a lamp's shape. Colour and shape change
independently, in continuous time; the transition over a time is the matrix exponential of the
rates. L. R. Rabiner, "A Tutorial on Hidden Markov Models", Proc. IEEE 77(2), 1989, section III.A
(forward procedure).

A flashing colour has hidden states for each speed of flashing: the stages of its lit half of a
period, then those of its dark half. The time in a half is the sum of as many exponential times as
it has stages (Erlang's distribution), so that a half that is far too long or too short tells a
lamp that flashes from one that is lit, off, or dark in single exposures. Letters: E elements, C
hidden colours, S shapes, A colours in an image (``vocabulary.LIGHT_COLORS``).
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from bevstack.config.cues import LightConfig
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS

Floats = NDArray[np.float64]

# States that a cue names, beside "unknown".
LIGHT_STATES = (
    "off",
    "red",
    "yellow",
    "green",
    "red_yellow",
    "flashing_red",
    "flashing_yellow",
    "flashing_green",
)
_FLASHING = ("red", "yellow", "green")
_SPEEDS = ("slow", "fast")
_STAGES = 4  # of a half: its length varies by half of its mean, 1 / sqrt(4)
_PHASES = tuple(f"{half}{stage}" for half in ("lit", "dark") for stage in range(_STAGES))
_FLASH_STATES = tuple(f"{speed}_{phase}" for speed in _SPEEDS for phase in _PHASES)
# Hidden colours: the five steady ones, then the phases of each flashing one.
HIDDEN = (*LIGHT_STATES[:5], *(f"{c}_{state}" for c in _FLASHING for state in _FLASH_STATES))
# Row of ``LIGHT_STATES`` for every hidden colour.
STATE_ROWS = np.array([*range(5), *np.repeat([5, 6, 7], len(_FLASH_STATES))])
_CIRCLE = 0.6  # share of full lamps


def initial_belief(count: int, config: LightConfig) -> Floats:  # (E, C, S)
    """Return the belief before the first look: shares of time in common signal plans."""
    states = np.array((*config.steady_prior, *config.flashing_prior))
    members = np.bincount(STATE_ROWS)
    colors = (states / members)[STATE_ROWS]
    joint = np.outer(colors / colors.sum(), shape_shares())
    return np.broadcast_to(joint, (count, *joint.shape)).copy()


def shape_shares() -> Floats:  # (S,)
    """Return the shares of the lamps' shapes, among lights and in the head's training."""
    shapes = np.full(len(LAMP_SHAPES), (1 - _CIRCLE) / (len(LAMP_SHAPES) - 1))
    shapes[LAMP_SHAPES.index("circle")] = _CIRCLE
    return shapes


def color_rates(config: LightConfig) -> Floats:  # (C, C) per second, rows sum to 0
    """Return the generator of the hidden colours: rate of each row's change into each column."""
    rates = np.zeros((len(HIDDEN), len(HIDDEN)))
    row = {name: index for index, name in enumerate(HIDDEN)}

    def change(source: str, target: str, per_s: float) -> None:
        rates[row[source], row[target]] += per_s

    change("green", "yellow", config.green_to_yellow)
    change("green", "red", config.green_to_red)
    change("yellow", "red", config.yellow_to_red)
    change("yellow", "green", config.yellow_to_green)
    change("red", "green", config.red_to_green)
    change("red", "red_yellow", config.red_to_red_yellow)
    change("red", "yellow", config.red_to_yellow)
    change("red_yellow", "green", config.red_yellow_to_green)
    for color in _FLASHING:
        start = config.green_to_flashing if color == "green" else config.to_flashing
        for speed, hz in zip(_SPEEDS, (config.flash_slow_hz, config.flash_fast_hz), strict=True):
            for phase, next_phase in zip(_PHASES, (*_PHASES[1:], _PHASES[0]), strict=True):
                state = f"{color}_{speed}_{phase}"
                change(color, state, start / len(_FLASH_STATES))
                change(state, f"{color}_{speed}_{next_phase}", 2 * _STAGES * hz)
                change(state, color, config.flashing_to_steady)
                change(state, "off", config.to_off)
                if color == "green":
                    change(state, "yellow", config.flashing_green_to_yellow)
                if color == "yellow":
                    change("off", state, config.to_flashing / len(_FLASH_STATES))
    for color in LIGHT_STATES[1:5]:
        change(color, "off", config.to_off)
        change("off", color, config.off_to_any)
    np.fill_diagonal(rates, -rates.sum(1))
    return rates


@functools.lru_cache(maxsize=1024)
def _color_transition(config: LightConfig, microseconds: int) -> Floats:
    transition: Floats = expm(color_rates(config) * (microseconds * 1e-6))
    transition.setflags(write=False)
    return transition


def color_transition(config: LightConfig, seconds: float) -> Floats:  # (C, C) rows sum to 1
    """Return the probability of each hidden colour (column) after a time in another (row)."""
    return _color_transition(config, round(seconds * 1e6))


def shape_transition(config: LightConfig, seconds: float, count: int) -> Floats:  # (S, S)
    """Return the probability of each shape (column) after a time with another (row)."""
    kept = math.exp(-config.shape_change * seconds)
    return kept * np.eye(count) + (1 - kept) / count


def predict(
    belief: Floats,  # (E, C, S)
    color: Floats,  # (C, C)
    shape: Floats,  # (S, S)
) -> Floats:  # (E, C, S)
    """Return the belief after a time without a look, from the transitions over that time."""
    return np.asarray(color.T @ belief @ shape)


def update(
    belief: Floats,  # (E, C, S)
    likelihood: Floats,  # (E, C, S) up to a factor for each element
) -> Floats:  # (E, C, S)
    """Return the belief after a look.

    A look that the belief excludes leaves it unchanged.
    """
    joint = belief * likelihood
    total = joint.sum((1, 2), keepdims=True)
    possible = total > 0
    return np.where(possible, joint / np.where(possible, total, 1.0), belief)


def appearance_probabilities(config: LightConfig) -> Floats:  # (C, A)
    """Return the probability of each colour in an image, given the hidden colour.

    A lit lamp looks off with the probability of a dark half-wave.
    """
    table = np.zeros((len(HIDDEN), len(LIGHT_COLORS)))
    for row, name in enumerate(HIDDEN):
        color = name.partition("_")[0]
        shown = name if name in LIGHT_COLORS else "off" if "dark" in name else color
        table[row, LIGHT_COLORS.index(shown)] += 1 - config.dark_probability
        table[row, LIGHT_COLORS.index("off")] += config.dark_probability
    return table


def look_likelihood(
    color: Floats,  # (E, A) the head's probabilities
    shape: Floats,  # (E, S) the head's probabilities
    scores: Floats,  # (E,) probability that the box shows the element
    expected: Floats,  # (E, S) probabilities of the shape before the look
    config: LightConfig,
) -> Floats:  # (E, C, S), 1: no information
    """Return the likelihood of each hidden state from a head's calibrated probabilities.

    By Bayes' rule the likelihood is the head's probability divided by the share of the class in its
    training, up to a factor. A box that shows something else, or scores that carry no information,
    have the likelihood 1. An image of an unlit light has no shape; what is read from its housing is
    as probable as it is for a lit lamp of the expected shapes, so that it is no evidence for light.
    """
    ratio = normalised(color) / np.asarray(config.head_color_prior)  # (E, A)
    ratio = ratio * sum(config.head_color_prior)
    shape_ratio = normalised(shape) / shape_shares()  # (E, S)
    shape_ratio = shape_ratio / (normalised(expected) * shape_ratio).sum(1, keepdims=True)
    shown = appearance_probabilities(config)  # (C, A)
    off = LIGHT_COLORS.index("off")
    dark = shown[:, off] * ratio[:, off, None]  # (E, C)
    lit = ratio @ shown.T - dark  # (E, C)
    likelihood = lit[:, :, None] * shape_ratio[:, None] + dark[:, :, None]
    weight = (np.clip(scores, 0, 1) * (1 - config.confusion))[:, None, None]
    mixed: Floats = weight * likelihood + (1 - weight)
    return mixed**config.independence


def gap_likelihood(
    missed: Floats,  # (E,) probability that the light is where the image has no box
    config: LightConfig,
) -> Floats:  # (E, C, 1), 1: no information
    """Return the likelihood of each hidden state where the head finds no box of a known light.

    A dark housing is missed more often than a lit lamp. That tells the dark half of a flashing
    light from its lit half and from a steady light, no more: a vehicle may hide the light, so a gap
    is no evidence that it is off.
    """
    dark = np.array(["_dark" in name for name in HIDDEN])
    ratio = 1 + (config.dark_missed_ratio - 1) * np.clip(missed, 0, 1)
    return np.asarray(np.where(dark, ratio[:, None], 1.0)[..., None] ** config.independence)


def normalised(probabilities: Floats) -> Floats:  # (E, K)
    """Return rows that sum to 1; a row without a positive finite sum becomes equal shares."""
    rows = np.where(np.isfinite(probabilities), np.maximum(probabilities, 0), 0)
    total = rows.sum(1, keepdims=True)
    return np.where(total > 0, rows / np.where(total > 0, total, 1), 1 / rows.shape[1])


def state_probabilities(belief: Floats) -> Floats:  # (E, len(LIGHT_STATES))
    """Return the probability of each state that a cue names."""
    colors = belief.sum(2)
    states = np.zeros((len(belief), len(LIGHT_STATES)))
    for row, state in enumerate(STATE_ROWS):
        states[:, state] += colors[:, row]
    return states
