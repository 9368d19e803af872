"""Relevance on simulated junctions of several lanes, beside the rule "it faces me"."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bevstack.config.cues import EvidenceWeights, RelevanceConfig
from bevstack.planning.lights import STATE_NAMES
from bevstack.planning.relevance import Evidence, Surroundings, path_offset_m, weigh_evidence
from bevstack.vocabulary import LAMP_SHAPES, MANOEUVRES

CONFIG = RelevanceConfig()
LEFT, STRAIGHT = MANOEUVRES.index("left"), MANOEUVRES.index("straight")
PIECES = ("heading", "lateral", "motion", "arrow", "nearest", "agreement", "learned")
PLAIN = EvidenceWeights(**dict.fromkeys(PIECES, 1.0), offset=0.0)
SWITCHES = tuple(item.name for item in fields(CONFIG) if item.name.startswith("use_"))


def around(
    places: list[tuple[float, float, float]],
    *,
    yaw: list[float] | float = np.pi,
    states: list[str] | str = "red",
    shapes: list[str] | str = "circle",
    moving: float = -8.0,
    sigma: tuple[float, float, float] = (3.0, 0.3, 0.2),
    **changes: object,
) -> Surroundings:
    """Return lights at places in the ego frame."""
    count = len(places)
    states = [states] * count if isinstance(states, str) else states
    shapes = [shapes] * count if isinstance(shapes, str) else shapes
    shape = np.full((count, len(LAMP_SHAPES)), 0.01)
    for row, name in enumerate(shapes):
        shape[row, LAMP_SHAPES.index(name)] = 0.9
    result = Surroundings(
        is_light=np.ones(count, bool),
        position_m=np.array(places, np.float64).reshape(count, 3),
        covariance_m2=np.tile(np.diag(np.square(sigma)), (count, 1, 1)),
        yaw_rad=np.broadcast_to(np.asarray(yaw, np.float64), (count,)).copy(),
        yaw_variance=np.full(count, 0.02),
        moving_log_odds=np.full(count, moving),
        shape=shape,
        pedestrian=np.zeros(count),
        state=np.array([STATE_NAMES.index(name) for name in states]),
        learned=np.zeros((count, len(MANOEUVRES))),
        map_governs=np.zeros((count, len(MANOEUVRES))),
        curvature_per_m=0.0,
    )
    return replace(result, **changes)  # type: ignore[arg-type]


def relevance(lights: Surroundings, config: RelevanceConfig = CONFIG) -> NDArray[np.float64]:
    return weigh_evidence(lights, config).probabilities(config)[:, STRAIGHT]


def junction(rng: np.random.Generator) -> tuple[Surroundings, NDArray[np.bool_]]:
    """Return the lights of a junction whose lanes differ, as measured, and those of the own lane.

    Two or three lanes with a head above each, the cross street's head, and a tail lamp.
    """
    lanes = int(rng.integers(2, 4))
    own = int(rng.integers(lanes))
    distance = rng.uniform(12, 60)
    states = list(rng.choice(["red", "green", "yellow"], lanes, replace=False))
    places = [(distance, 3.5 * (own - lane), 5.5) for lane in range(lanes)]
    yaw = [np.pi] * lanes + [np.pi / 2, np.pi]
    places += [(distance + 8, -9.0, 5.0), (distance / 2, 0.5, 0.9)]
    sigma = np.array([0.08 * distance, 0.3 + 0.003 * distance, 0.2])
    noisy = np.array(places) + rng.normal(0, 1, (len(places), 3)) * sigma
    noisy[:, 1] += rng.normal(0, 0.4)  # the vehicle's own offset in its lane
    lights = around(
        [tuple(place) for place in noisy],
        yaw=[angle + rng.normal(0, 0.12) for angle in yaw],
        states=[*states, "red", "red"],
        sigma=tuple(sigma),
    )
    lights.moving_log_odds[-1] = 5.0
    return lights, np.arange(len(places)) == own


def accuracy(config: RelevanceConfig, count: int = 150) -> float:
    rng, right = np.random.default_rng(7), []
    for _ in range(count):
        lights, truth = junction(rng)
        right += list((relevance(lights, config) >= config_threshold(config)) == truth)
    return float(np.mean(right))


def config_threshold(config: RelevanceConfig) -> float:
    """Return 0.5, or for the rule of the heading alone, the prior: any evidence for counts."""
    alone = not any(getattr(config, name) for name in SWITCHES if name != "use_heading")
    return 1 / (1 + np.exp(-config.prior_log_odds)) if alone else 0.5


def heading_alone() -> RelevanceConfig:
    return replace(CONFIG, **{name: name == "use_heading" for name in SWITCHES})


def test_all_evidence_is_better_than_the_heading_where_lanes_differ() -> None:
    full, rule = accuracy(CONFIG), accuracy(heading_alone())
    assert full >= 0.9
    assert rule <= 0.65
    without_place = accuracy(replace(CONFIG, use_lateral=False))
    assert without_place < full - 0.1


@pytest.mark.parametrize("name", SWITCHES)
def test_a_piece_that_is_switched_off_is_zero(name: str) -> None:
    lights = around(
        [(30.0, 0.2, 5.5), (30.0, 3.6, 5.5), (90.0, 0.0, 5.0), (-2.0, 0.0, 5.0)],
        states=["red", "green", "red", "red"],
        shapes=["circle", "left", "circle", "circle"],
        learned=np.full((4, len(MANOEUVRES)), 0.7),
        map_governs=np.array([[0.0] * 4, [0.0] * 4, [1.0] * 4, [0.0] * 4]),
    )
    piece = name.removeprefix("use_")
    whole = replace(CONFIG, with_head=PLAIN)
    on = getattr(weigh_evidence(lights, whole), piece)
    off = getattr(weigh_evidence(lights, replace(whole, **{name: False})), piece)
    assert np.abs(on).max() > 0.1
    assert not off.any()
    assert {item.name for item in fields(Evidence)} == {s.removeprefix("use_") for s in SWITCHES}


def test_the_sum_is_that_of_the_pieces_and_the_prior() -> None:
    lights = around([(30.0, 0.2, 5.5), (30.0, 3.6, 5.5)], states=["red", "green"])
    evidence = weigh_evidence(lights, CONFIG)
    total = CONFIG.prior_log_odds + sum(getattr(evidence, item.name) for item in fields(evidence))
    np.testing.assert_allclose(evidence.log_odds(CONFIG), total)


def test_pieces_beside_the_head_have_their_factors() -> None:
    """By a sum in a loop; an element without the head's log-odds keeps the plain pieces."""
    learned = np.array([[0.7, -2.0, 0.3, 0.1], [0.0] * 4])
    lights = around([(30.0, 0.2, 5.5), (30.0, 3.6, 5.5)], states=["red", "green"], learned=learned)
    factors = EvidenceWeights(
        heading=0.5, lateral=0.25, motion=2.0, arrow=0.0, nearest=1.0, learned=3.0, offset=-0.5
    )
    before = weigh_evidence(lights, replace(CONFIG, with_head=PLAIN))
    after = weigh_evidence(lights, replace(CONFIG, with_head=factors))
    for row, column in np.ndindex(2, len(MANOEUVRES)):
        total = CONFIG.prior_log_odds + (factors.offset if row == 0 else 0.0)
        for name in PIECES:
            factor = getattr(factors, name) if row == 0 else 1.0
            total += factor * getattr(before, name)[row, column]
        people = -8.0 * 0.01 * 3 / lights.shape[row].sum()  # three shapes that are not for cars
        total += people * (1 - (factors.arrow if row == 0 else 1.0))
        got = after.log_odds(CONFIG)[row, column]
        np.testing.assert_allclose(got, total, atol=1e-9)


def test_a_lamp_for_people_is_excluded_beside_the_head() -> None:
    learned = np.full((1, len(MANOEUVRES)), 3.0)
    walk = around([(30.0, 0.0, 3.5)], pedestrian=np.array([0.99]), learned=learned)
    assert relevance(walk)[0] < 0.1
    assert relevance(around([(30.0, 0.0, 3.5)], learned=learned))[0] > 0.8


def test_a_passed_light_is_not_relevant() -> None:
    assert relevance(around([(-1.0, 0.0, 5.5)]))[0] < 0.01


def test_the_nearest_junction_comes_first() -> None:
    near, far = relevance(around([(30.0, 0.0, 5.5), (90.0, 0.0, 5.5)]))
    assert near > 0.9 and far < 0.1


def test_a_light_of_the_cross_street_is_not_relevant() -> None:
    assert relevance(around([(30.0, -6.0, 5.0)], yaw=np.pi / 2))[0] < 0.2


def test_a_moving_lamp_is_not_relevant() -> None:
    assert relevance(around([(30.0, 0.0, 5.5)], moving=6.0))[0] < 0.3


def test_an_arrow_governs_its_manoeuvre_and_supersedes_the_full_lamp() -> None:
    lights = around(
        [(30.0, 0.3, 5.5), (30.0, -0.3, 5.5)], states=["green", "red"], shapes=["left", "circle"]
    )
    p = weigh_evidence(lights, CONFIG).probabilities(CONFIG)
    assert p[0, LEFT] > 0.8 and p[0, STRAIGHT] < 0.5
    assert p[1, STRAIGHT] > 0.8 and p[1, LEFT] < p[0, LEFT]


def test_lamps_for_people_and_trams_are_not_relevant() -> None:
    for shape in ("pedestrian", "bicycle", "tram"):
        assert relevance(around([(30.0, 0.0, 3.5)], shapes=shape))[0] < 0.5, shape
    assert relevance(around([(30.0, 0.0, 3.5)], pedestrian=np.array([0.99])))[0] < 0.5


def test_lights_that_agree_support_one_another() -> None:
    places = [(30.0, 1.2, 5.5), (30.0, -1.5, 5.5)]
    alike = relevance(around(places, states="red"))
    mixed = relevance(around(places, states=["red", "green"]))
    assert (alike > mixed).all()


def test_the_map_overrides_place_and_agreement() -> None:
    lights = around(
        [(30.0, 0.0, 5.5), (30.0, 3.5, 5.5)],
        states=["red", "green"],
        map_governs=np.array([[-1.0] * 4, [1.0] * 4]),
    )
    evidence = weigh_evidence(lights, CONFIG)
    assert not evidence.lateral.any() and not evidence.agreement.any()
    first, second = evidence.probabilities(CONFIG)[:, STRAIGHT]
    assert first < 0.05 and second > 0.95


def test_poles_stand_at_the_side_of_traffic() -> None:
    place = [(20.0, -3.5, 4.0)]
    right = weigh_evidence(around(place), CONFIG).lateral[0, 0]
    left = weigh_evidence(around(place), replace(CONFIG, right_hand_traffic=False)).lateral[0, 0]
    assert right > left


def test_the_path_is_an_arc_that_continues_straight() -> None:
    """Beside a circle of 100 m radius, integrated in small steps."""
    lights = around([(x, 0.0, 5.0) for x in (5.0, 20.0, 60.0)], curvature_per_m=0.01)
    step, y, heading, found = 0.001, 0.0, 0.0, []
    for x in np.arange(0, 60.0005, step):
        if any(abs(x - target) < step / 2 for target in (5.0, 20.0, 60.0)):
            found.append(-y)
        heading = 0.01 * min(x, CONFIG.curvature_reach_m)
        y += heading * step  # tan of a small angle: 1 % at 0.25 rad
    # The parabola differs from the sum of steps by the step's width.
    np.testing.assert_allclose(path_offset_m(lights, CONFIG), found, atol=0.01)


def test_evidence_that_is_not_finite_counts_as_none() -> None:
    lights = around([(30.0, 0.0, 5.5)])
    broken = replace(lights, yaw_rad=np.array([np.nan]), learned=np.full((1, 4), np.nan))
    assert np.isfinite(relevance(broken)).all()
