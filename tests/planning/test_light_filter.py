"""The filter of lights beside an enumeration of all paths of hidden states."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bevstack.config.cues import LightConfig
from bevstack.planning import light_filter
from bevstack.planning.light_filter import HIDDEN, LIGHT_STATES, STATE_ROWS
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS

CONFIG = LightConfig()
RNG = np.random.default_rng(5)


def test_the_filter_equals_an_enumeration_of_all_paths() -> None:
    colors, shapes, steps = 4, 2, 4
    color = RNG.dirichlet(np.ones(colors), (steps, colors))
    shape = RNG.dirichlet(np.ones(shapes), (steps, shapes))
    likelihood = RNG.uniform(0.05, 1, (steps, colors, shapes))
    likelihood[2] = 1.0  # a frame without a look
    start = RNG.dirichlet(np.ones(colors * shapes)).reshape(colors, shapes)

    belief = start[None]
    for step in range(steps):
        belief = light_filter.predict(belief, color[step], shape[step])
        belief = light_filter.update(belief, likelihood[step][None])

    expected = np.zeros((colors, shapes))
    states = list(itertools.product(range(colors), range(shapes)))
    for path in itertools.product(states, repeat=steps + 1):
        weight = start[path[0]]
        for step, ((c0, s0), (c1, s1)) in enumerate(itertools.pairwise(path)):
            weight *= color[step, c0, c1] * shape[step, s0, s1] * likelihood[step, c1, s1]
        expected[path[-1]] += weight
    # Float64 sums of 32,768 products: relative error below 1e-12.
    np.testing.assert_allclose(belief[0], expected / expected.sum(), rtol=1e-12)


def test_the_whole_filter_equals_an_enumeration_over_the_real_states() -> None:
    """Two steps of the real model: all hidden colours and shapes."""
    seconds = (0.1, 0.3)
    color = [light_filter.color_transition(CONFIG, s) for s in seconds]
    shape = [light_filter.shape_transition(CONFIG, s, len(LAMP_SHAPES)) for s in seconds]
    scores = RNG.dirichlet(np.ones(len(LIGHT_COLORS)), 2)
    shown, likely = RNG.dirichlet(np.ones(len(LAMP_SHAPES)), (2, 2))
    looks = [
        light_filter.look_likelihood(
            scores[k : k + 1], shown[k : k + 1], np.array([0.9]), likely[k : k + 1], CONFIG
        )
        for k in range(2)
    ]
    belief = light_filter.initial_belief(1, CONFIG)
    start = belief[0]
    for k in range(2):
        belief = light_filter.update(light_filter.predict(belief, color[k], shape[k]), looks[k])

    expected = np.zeros_like(start)
    cells = list(itertools.product(range(len(HIDDEN)), range(len(LAMP_SHAPES))))
    for c1, s1 in cells:
        # Sum over the first state; the second and third are enumerated.
        weight = float((start * np.outer(color[0][:, c1], shape[0][:, s1])).sum())
        weight *= looks[0][0, c1, s1]
        for c2, s2 in cells:
            step = color[1][c1, c2] * shape[1][s1, s2] * looks[1][0, c2, s2]
            expected[c2, s2] += weight * step
    np.testing.assert_allclose(belief[0], expected / expected.sum(), rtol=1e-10)


def test_transitions_are_probabilities_and_compose() -> None:
    half, whole = (light_filter.color_transition(CONFIG, s) for s in (0.4, 0.8))
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-12)
    assert (whole >= 0).all()
    # Chapman and Kolmogorov: two halves are the whole; expm is exact to about 1e-14.
    np.testing.assert_allclose(half @ half, whole, atol=1e-12)


def test_yellow_lasts_as_long_as_its_rate_demands() -> None:
    row = HIDDEN.index("yellow")
    stays = light_filter.color_rates(CONFIG)[row, row]
    assert 2.0 < -1 / stays < 6.0
    assert light_filter.color_transition(CONFIG, 0.1)[HIDDEN.index("red"), row] < 1e-4


def test_red_and_yellow_can_be_excluded() -> None:
    rates = light_filter.color_rates(replace(CONFIG, red_to_red_yellow=0.0))
    assert rates[HIDDEN.index("red"), HIDDEN.index("red_yellow")] == 0


def shown_color(hidden: str) -> str:
    """Return the colour of a lit hidden state, by its name."""
    return hidden if hidden in LIGHT_COLORS else hidden.split("_")[0]


def test_the_likelihood_is_the_posterior_divided_by_the_prior() -> None:
    """With sure scores, no confusion and independent frames, by Bayes' rule in a loop."""
    config = replace(
        CONFIG, confusion=1e-12, independence=1.0, head_color_prior=(0.1, 0.4, 0.05, 0.4, 0.05)
    )
    color = RNG.dirichlet(np.ones(len(LIGHT_COLORS)), 3)
    shape, likely = RNG.dirichlet(np.ones(len(LAMP_SHAPES)), (2, 3))
    got = light_filter.look_likelihood(color, shape, np.ones(3), likely, config)
    off = LIGHT_COLORS.index("off")
    shares = [0.6 if name == "circle" else 0.04 for name in LAMP_SHAPES]
    mean = [sum(likely[e] * shape[e] / shares) for e in range(3)]  # of the shape's evidence
    for e, c, s in itertools.product(range(3), range(len(HIDDEN)), range(len(LAMP_SHAPES))):
        name = HIDDEN[c]
        lit = "off" if name == "off" or "dark" in name else shown_color(name)
        ratio = [color[e, a] / config.head_color_prior[a] for a in range(len(LIGHT_COLORS))]
        dark = config.dark_probability
        expected = dark * ratio[off] + (1 - dark) * ratio[LIGHT_COLORS.index(lit)] * (
            1.0 if lit == "off" else shape[e, s] / shares[s] / mean[e]
        )
        np.testing.assert_allclose(got[e, c, s], expected, rtol=1e-9)


@pytest.mark.parametrize("known", LAMP_SHAPES)
@pytest.mark.parametrize("read", ["circle", "left", "pedestrian"])
def test_a_shape_read_from_the_housing_of_a_dark_lamp_is_no_light(known: str, read: str) -> None:
    """Colours of a dark image get the same belief with a shape as without one, rare ones too."""
    color = np.array([[0.84, 0.03, 0.12, 0.01, 0.0]])
    shape = np.full((1, len(LAMP_SHAPES)), 0.001)
    shape[0, LAMP_SHAPES.index(read)] = 0.99
    none = light_filter.shape_shares()[None]
    expected = np.full((1, len(LAMP_SHAPES)), 0.01)
    expected[0, LAMP_SHAPES.index(known)] = 0.9
    expected = expected / expected.sum()
    colors = light_filter.initial_belief(1, CONFIG).sum(2)
    belief = colors[:, :, None] * expected[:, None]
    looked = light_filter.look_likelihood(color, shape, np.ones(1), expected, CONFIG)
    plain = light_filter.look_likelihood(color, none, np.ones(1), expected, CONFIG)
    shown = light_filter.update(belief, looked).sum(2)
    # Powers of sums differ by the independence of 0.9; the colours' odds differ by less than that.
    odds = shown / light_filter.update(belief, plain).sum(2)
    np.testing.assert_allclose(odds / odds[0, 0], 1, atol=0.25)


def test_a_box_of_score_zero_is_no_evidence() -> None:
    color = RNG.dirichlet(np.ones(len(LIGHT_COLORS)), 2)
    shape = RNG.dirichlet(np.ones(len(LAMP_SHAPES)), 2)
    likelihood = light_filter.look_likelihood(color, shape, np.zeros(2), shape[::-1], CONFIG)
    np.testing.assert_array_equal(likelihood, 1)


def test_states_collect_the_phases_of_flashing() -> None:
    belief = RNG.dirichlet(np.ones(len(HIDDEN) * 3)).reshape(1, len(HIDDEN), 3)
    states = light_filter.state_probabilities(belief)[0]
    for index, state in enumerate(LIGHT_STATES):
        assert states[index] == pytest.approx(belief[0, index == STATE_ROWS].sum()), state


def flashing_by_paths(shown: list[str], seconds: float, config: LightConfig) -> float:
    """Return the probability of flashing red from sure images, over all paths of two models.

    The paths run over red, off and the phases of flashing red alone, in a loop over steps.
    """
    names = [h for h in HIDDEN if h in ("red", "off") or h.startswith("red_slow")]
    names += [h for h in HIDDEN if h.startswith("red_fast")]
    rows = [HIDDEN.index(name) for name in names]
    step = light_filter.color_transition(config, seconds)
    start = light_filter.initial_belief(1, config)[0].sum(1)
    weight = {name: float(start[row]) for name, row in zip(names, rows, strict=True)}
    for number, color in enumerate(shown):
        moved = dict.fromkeys(names, 0.0)
        for (one, i), (two, j) in itertools.product(zip(names, rows, strict=True), repeat=2):
            share = (1.0 if one == two else 0.0) if number == 0 else float(step[i, j])
            moved[two] += weight[one] * share
        for name in names:
            dark = name == "off" or "dark" in name
            seen = {"off": config.dark_probability, "red": 1 - config.dark_probability}
            moved[name] *= (1.0 if color == "off" else 0.0) if dark else seen[color]
        weight = moved
    total = sum(weight.values())
    return sum(v for name, v in weight.items() if name not in ("red", "off")) / total


def test_one_dark_half_of_a_period_shows_flashing() -> None:
    """The real filter on sure images equals the loop: lit, then dark for as long as LEDs are not.

    The two differ by the remaining colours, which a sure image of "off" excludes up to LEDs: 3e-3.
    """
    config = replace(CONFIG, confusion=1e-9, independence=1.0, dark_probability=0.03)
    shape = np.full((1, len(LAMP_SHAPES)), 1 / len(LAMP_SHAPES))
    for dark in range(6):
        shown = ["red"] * 6 + ["off"] * dark
        belief = light_filter.initial_belief(1, config)
        for number, color in enumerate(shown):
            scores = np.full((1, len(LIGHT_COLORS)), 1e-9)
            scores[0, LIGHT_COLORS.index(color)] = 1.0
            if number:
                moved = light_filter.color_transition(config, 1 / 12)
                belief = light_filter.predict(belief, moved, np.eye(len(LAMP_SHAPES)))
            looked = light_filter.look_likelihood(scores, shape, np.ones(1), belief.sum(1), config)
            belief = light_filter.update(belief, looked)
        states = light_filter.state_probabilities(belief)[0]
        flashing = states[LIGHT_STATES.index("flashing_red")]
        assert flashing == pytest.approx(flashing_by_paths(shown, 1 / 12, config), abs=3e-3)
        # One dark exposure is no flashing; a dark quarter of a second is.
        assert flashing < 0.5 if dark <= 1 else True
        assert flashing > 0.9 if dark in (3, 4) else True
