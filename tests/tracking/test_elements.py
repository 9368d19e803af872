"""Tracking of lights and signs: filters, identities, occlusion, bad detections."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bevstack.config.element_tracking import ElementTrackingConfig
from bevstack.planning.stream import CueStream
from bevstack.tracking import element_filter
from bevstack.tracking.element_tracks import ElementScene
from bevstack.tracking.elements import update_elements
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, MANOEUVRES, SIGN_MEANINGS
from tests.planning.drives import NAMES, START_US, Noise, Post, detect, pose_at, view_at

CONFIG = ElementTrackingConfig()
QUIET = Noise(missed=0)
RNG = np.random.default_rng(3)


def _covariances(count: int, size: int = 3) -> NDArray[np.float64]:
    roots = RNG.normal(size=(count, size, size))
    return roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(size)


def track(
    posts: list[Post],
    seconds: float,
    *,
    lost: tuple[str, ...] = (),
    speed: float = 8.0,
    start: ElementScene | None = None,
    first_s: float = 0.0,
) -> ElementScene:
    scene, rng = start, np.random.default_rng(1)
    for k in range(round(seconds * 10)):
        time_s = first_s + k / 10
        view = view_at(pose_at(speed * time_s), time_s, lost=lost)
        scene = update_elements(scene, detect(posts, view, time_s, rng, QUIET), view, CONFIG)
    assert scene is not None
    return scene


def test_successive_updates_equal_one_weighted_mean() -> None:
    """Beside information form: inverse covariances of the start and of all measurements add up."""
    start, first = RNG.normal(size=(2, 3)), _covariances(2)
    measured, noise = RNG.normal(size=(4, 2, 3)), [_covariances(2) for _ in range(4)]
    state, covariance = start, first
    for place, spread in zip(measured, noise, strict=True):
        state, covariance, _ = element_filter.update(state, covariance, place, spread)
    for row in range(2):
        information = np.linalg.inv(first[row])
        vector = information @ start[row]
        for place, spread in zip(measured, noise, strict=True):
            information = information + np.linalg.inv(spread[row])
            vector = vector + np.linalg.inv(spread[row]) @ place[row]
        # Conditions of up to 1e3 cost about three of sixteen digits.
        np.testing.assert_allclose(state[row], np.linalg.solve(information, vector), rtol=1e-9)
        np.testing.assert_allclose(covariance[row], np.linalg.inv(information), rtol=1e-9)


def test_distances_equal_a_loop() -> None:
    places, spreads = RNG.normal(size=(3, 3)), _covariances(3)
    found, noise = RNG.normal(size=(2, 3)), _covariances(2)
    got = element_filter.squared_distances(places, spreads, found, noise)
    for e in range(3):
        for d in range(2):
            gap = found[d] - places[e]
            expected = gap @ np.linalg.inv(spreads[e] + noise[d]) @ gap
            assert got[e, d] == pytest.approx(expected, rel=1e-9)


def test_noise_grows_along_the_line_of_sight_alone() -> None:
    place, origin = np.array([[40.0, 0.0, 0.0]]), np.zeros((1, 3))
    noise = element_filter.measurement_noise(
        place, np.diag([4.0, 0.01, 0.01])[None], origin, range_inflation=3.0, bearing_sigma_rad=0.01
    )
    np.testing.assert_allclose(noise[0], np.diag([36.16, 0.17, 0.17]), atol=1e-9)


def test_covariances_that_are_not_positive_are_mended() -> None:
    broken = np.array([[[-1.0, 0, 0], [0, 0, 0], [0, 0, 2.0]]])
    noise = element_filter.measurement_noise(
        np.ones((1, 3)), broken, np.zeros((1, 3)), range_inflation=2.0, bearing_sigma_rad=0.004
    )
    assert (np.linalg.eigvalsh(noise) > 0).all()


def test_the_place_sharpens_while_the_vehicle_drives() -> None:
    scene = track([Post((60.0, 4.0, 5.0))], 5.0)
    (position,) = scene.elements.position_m
    assert len(scene.elements) == 1
    # 8 % bias of the housing; bearings from 40 m of way leave less than that at 20 m.
    assert np.linalg.norm(position - (60.0, 4.0, 5.0)) < 0.08 * 20 + 0.5
    assert scene.elements.moving_log_odds[0] < CONFIG.moving_prior_log_odds


def test_identities_follow_from_scene_time_and_order() -> None:
    view = view_at(pose_at(0), 0.0)
    posts = [Post((40.0, 4.0, 5.0)), Post((40.0, -4.0, 5.0))]
    detections = detect(posts, view, 0.0, np.random.default_rng(0), QUIET)
    first, second = (update_elements(None, detections, view, CONFIG) for _ in range(2))
    assert first.elements.identity.tolist() == second.elements.identity.tolist()
    family = uuid.UUID("6f0b1c0e-6b1d-5d0c-9f54-3c1f0a7f2b11")
    names = [str(uuid.uuid5(family, f"scene/{START_US}/{order}")) for order in range(2)]
    assert first.elements.identity.tolist() == names


def test_an_element_is_the_same_after_a_second_of_occlusion() -> None:
    posts = [Post((60.0, y, 5.0), hidden=(1.0, 2.1)) for y in (0.0, 3.5)]
    before, after = track(posts, 0.9), track(posts, 3.0)
    assert before.elements.identity.tolist() == after.elements.identity.tolist()
    assert after.seen.all()


def test_an_element_that_is_gone_ends_after_some_seconds_in_view() -> None:
    scene = track([Post((80.0, 0.0, 5.0), hidden=(1.0, 99.0))], 6.5, speed=4.0)
    assert len(scene.elements) == 0


def test_weak_boxes_do_not_keep_an_element() -> None:
    """Boxes of score 0.06 end it as fast as none; boxes of score 0.4 keep it."""
    post, rng = Post((80.0, 0.0, 5.0)), np.random.default_rng(4)
    confidences = {}
    for score in (0.06, 0.4):
        scene = track([post], 2.0, speed=1.0)
        for step in range(1, 21):
            time_s = 2.0 + 0.1 * step
            view = view_at(pose_at(1.0 * time_s), time_s)
            weak = detect([post], view, time_s, rng, QUIET)
            weak = replace(weak, scores=np.full(len(weak), score))
            scene = update_elements(scene, weak, view, CONFIG)
        confidences[score] = scene.elements.confidence[0]
    gone = track([], 2.0, speed=1.0, start=track([post], 2.0, speed=1.0), first_s=2.0)
    assert confidences[0.06] == pytest.approx(gone.elements.confidence[0], abs=0.05)
    assert confidences[0.4] > 0.95 > confidences[0.06]


def test_a_lost_camera_takes_no_existence_away() -> None:
    scene = track([Post((80.0, 0.0, 5.0))], 2.0, speed=1.0)
    blind = track([], 3.0, lost=NAMES, speed=1.0, start=scene, first_s=2.0)
    seeing = track([], 3.0, speed=1.0, start=scene, first_s=2.0)
    assert blind.elements.confidence[0] > 0.9 > seeing.elements.confidence[0]


def test_a_moving_lamp_shows_its_speed() -> None:
    scene = track([Post((20.0, 3.0, 0.9), velocity_mps=(8.0, 0.0))], 3.0)
    speed, sigma = scene.elements.speed_mps
    assert scene.elements.moving_log_odds[0] > 3
    assert speed[0] == pytest.approx(8.0, abs=3 * sigma[0])


def test_lights_and_signs_at_one_place_are_two_elements() -> None:
    view = view_at(pose_at(0), 0.0)
    detections = detect([Post((40.0, 0.0, 5.0))], view, 0.0, np.random.default_rng(0), QUIET)
    scene = update_elements(None, detections, view, CONFIG)
    later = view_at(pose_at(0.5), 0.1)
    as_sign = replace(detections, category=np.full(len(detections), 2))
    assert len(update_elements(scene, as_sign, later, CONFIG).elements) == 2


def test_unusable_detections_are_left_out() -> None:
    view = view_at(pose_at(0), 0.0, lost=("CAM_FRONT",))
    good = detect(
        [Post((40.0, 0.0, 5.0))], view_at(pose_at(0), 0.0), 0.0, np.random.default_rng(0), QUIET
    )
    assert len(update_elements(None, good, view, CONFIG).elements) == 0
    view = view_at(pose_at(0), 0.0)
    for changes in (
        {"position_m": np.full((1, 3), np.nan)},
        {"camera": np.array([77])},
        {"boxes_px": np.array([[10.0, 10.0, 10.0, 20.0]])},
        {"scores": np.array([0.01])},
        {"position_cov_m2": np.full((1, 3, 3), np.inf)},
    ):
        bad = replace(good, **changes)  # type: ignore[arg-type]
        assert len(update_elements(None, bad, view, CONFIG).elements) == 0, changes


def test_a_frame_before_the_last_is_refused() -> None:
    scene = track([], 0.3)
    with pytest.raises(ValueError, match=r"timestamp_us must not lie before .*previous=None"):
        update_elements(scene, TrafficDetections.empty(), view_at(pose_at(0), 0.0), CONFIG)


def _random_detections(seed: int) -> TrafficDetections:
    """Return detections of any kind: far, near, overlapping, not finite, not normalised."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 9))

    def numbers(*shape: int) -> NDArray[np.float64]:
        values = rng.normal(size=(count, *shape)) * 10 ** rng.uniform(-2, 3, (count, *shape))
        values[rng.random(values.shape) < 0.03] = rng.choice([np.nan, np.inf, -np.inf, 0.0])
        return values

    corner = rng.uniform(-100, 1600, (count, 2))
    return TrafficDetections(
        camera=rng.integers(-1, 8, count),
        boxes_px=np.concatenate((corner, corner + rng.uniform(-5, 60, (count, 2))), 1),
        scores=rng.uniform(-0.2, 1.2, count),
        category=rng.integers(1, 3, count),
        color=np.abs(numbers(len(LIGHT_COLORS))),
        shape=numbers(len(LAMP_SHAPES)),
        meaning=numbers(len(SIGN_MEANINGS)),
        position_m=numbers(3),
        position_cov_m2=numbers(3, 3),
        heading_rad=numbers(),
        heading_std_rad=np.abs(numbers()),
        relevance=numbers(len(MANOEUVRES)),
        pedestrian=numbers(),
        speed_limit_mps=numbers(),
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_no_detection_raises_and_unknown_lights_never_give_go(seed: int) -> None:
    stream = CueStream()
    for k in range(3):
        view = view_at(pose_at(0.5 * k), 0.1 * k)
        with np.errstate(all="ignore"):
            cues = stream.step(view, _random_detections(seed + k))
        by_id = {cue.id: cue for cue in cues.elements}
        for ego in cues.ego:
            if ego.advice == "go":
                states = {c.state_name for c in by_id.values() if ego.manoeuvre in c.applies_to}
                assert states == {"green"}
        for cue in cues.elements:
            assert 0 <= cue.applies_to_ego <= 1 and np.isfinite(cue.position_m).all()
            assert 0 <= cue.state_probability <= 1 and 0 <= cue.confidence <= 1
