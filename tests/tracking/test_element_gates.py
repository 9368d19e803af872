"""Which boxes may continue an element: gates in direction and distance from the camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bevstack.config.element_tracking import ElementTrackingConfig
from bevstack.tracking import element_filter
from bevstack.tracking.element_tracks import ElementScene
from bevstack.tracking.elements import update_elements
from tests.planning.drives import Noise, Post, detect, pose_at, view_at

CONFIG = ElementTrackingConfig()
RNG = np.random.default_rng(5)
UNSURE = Noise(missed=0, distance=0.22)  # of the distance, as the packaged weights are
CAMERA = np.array([1.5, 0.0, 1.6])  # of the front camera of ``view_at``


def covariances(count: int) -> NDArray[np.float64]:
    roots = RNG.normal(size=(count, 3, 3))
    return roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(3)


def turned(
    covariance: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn a covariance as the plane of two directions turns from one to the other."""
    axis = np.cross(start, end)
    angle = np.arctan2(np.linalg.norm(axis), start @ end)
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    return np.asarray(rotation @ covariance @ rotation.T)


def test_distances_seen_from_a_camera_equal_a_loop() -> None:
    places, spreads = RNG.normal(size=(3, 3)) * 20, covariances(3)
    found, noise, cameras = RNG.normal(size=(2, 3)) * 20, covariances(2), RNG.normal(size=(2, 3))
    got, determinants = element_filter.seen_gaps(places, spreads, found, noise, cameras)
    for e in range(3):
        for d in range(2):
            old, new = places[e] - cameras[d], found[d] - cameras[d]
            far, near = np.linalg.norm(old), np.linalg.norm(new)
            middle = old / far + new / near
            gap = new / near - old / far + np.log(near / far) * middle / np.linalg.norm(middle)
            spread = (
                turned(spreads[e], old, middle) / far**2 + turned(noise[d], new, middle) / near**2
            )
            assert got[e, d] == pytest.approx(gap @ np.linalg.inv(spread) @ gap, rel=1e-9)
            expected = np.log(np.linalg.det(spread))
            assert determinants[e, d] == pytest.approx(expected, rel=1e-9)


def test_small_gaps_are_those_of_the_plain_distance() -> None:
    place, spread = np.array([[60.0, 5, 4]]), covariances(1)
    found = place + RNG.normal(size=(1, 3)) * 1e-3
    seen, _ = element_filter.seen_gaps(place, spread, found, spread, np.zeros((1, 3)))
    plain = element_filter.squared_distances(place, spread, found, spread)
    assert seen[0, 0] == pytest.approx(plain[0, 0], rel=1e-2)  # of second order in 1e-3


def test_an_element_at_the_camera_and_one_behind_it_have_finite_distances() -> None:
    places = np.array([[1.5, 0, 1.6], [-28.5, 0, 1.6]])
    found, spread = np.array([[31.5, 0, 1.6]]), np.tile(0.3 * np.eye(3), (2, 1, 1))
    got, _ = element_filter.seen_gaps(places, spread, found, spread[:1], CAMERA[None])
    assert np.isfinite(got).all() and (got > CONFIG.gate).all()


def scene_of(post: Post, time_s: float, start: ElementScene | None = None) -> ElementScene:
    view = view_at(pose_at(0.0), time_s)
    found = detect([post], view, time_s, np.random.default_rng(1), UNSURE)
    return update_elements(start, found[:1], view, CONFIG)


@pytest.mark.parametrize("near_m", [(2.5, 0.8, 2.2), (5.0, 1.5, 2.8), (-4.0, 0.5, 2.0)])
def test_a_far_box_does_not_continue_an_element_beside_the_vehicle(
    near_m: tuple[float, float, float],
) -> None:
    """Errors of the distance grow with it: a far box is uncertain by as much as it is far."""
    start = scene_of(Post((30.0, 6.0, 4.0)), 0.0)
    near = replace(
        start.elements,
        position_m=np.array([near_m]),
        covariance_m2=np.diag([0.3, 0.1, 0.02])[None],
        motion=np.array([[*near_m, 0.0, 0.0, 0.0]]),
        motion_covariance=np.diag([0.3, 0.1, 0.02, 9.0, 9.0, 0.1])[None],
    )
    after = scene_of(Post((90.0, 5.0, 5.8)), 0.1, replace(start, elements=near))
    assert len(after.elements) == 2
    np.testing.assert_allclose(after.elements.position_m[0], near_m)
    assert after.rows[:, 0].tolist() == [-1, 0]


@pytest.mark.parametrize("seconds", [0.1, 1.0])
@pytest.mark.parametrize("side_m", [-9.0, 1.0])
def test_an_element_takes_no_box_of_another_direction(side_m: float, seconds: float) -> None:
    """The range is unsure, and nothing else.

    Seen from the camera, the direction tells both apart. Had the element moved in the meantime, it
    could be anywhere; that makes no other place probable.
    """
    start = scene_of(Post((30.0, 6.0, 4.0)), 0.0)
    assert start.elements.moving_log_odds[0] == CONFIG.moving_prior_log_odds
    after = scene_of(Post((30.0, side_m, 4.0)), seconds, start)
    assert after.elements.identity[0] == start.elements.identity[0]
    np.testing.assert_allclose(after.elements.position_m[0], start.elements.position_m[0])
    assert after.rows[:, 0].tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("box_px", "starts"),
    [
        ((-1.6, 0.0, 1.6, 0.54), False),  # half of the housing, and the arm beside it
        ((0.2, 0.1, 0.8, 0.4), False),  # a part of it
        ((0.6, 0.0, 3.6, 1.0), True),  # a light beside it, whose box reaches into it
        ((1.5, 0.0, 2.5, 1.0), True),  # a light beside it
    ],
)
def test_a_second_box_of_a_part_of_a_light_starts_no_element(
    box_px: tuple[float, float, float, float], starts: bool
) -> None:
    """Boxes in widths and heights of the first light's box, at another distance."""
    view = view_at(pose_at(0.0), 0.0)
    posts = [Post((30.0, 1.0, 5.5)), Post((20.0, -4.0, 5.5))]
    both = detect(posts, view, 0.0, np.random.default_rng(1), Noise(missed=0))
    found = both[both.camera == 0]
    left, top, right, bottom = found.boxes_px[0]
    unit = np.array([right - left, bottom - top] * 2)
    second = np.array([left, top] * 2) + np.array(box_px) * unit
    boxes = np.stack((found.boxes_px[0], second))
    found = replace(found, boxes_px=boxes, scores=np.array([0.99, 0.4]))
    scene = update_elements(None, found, view, CONFIG)
    assert len(scene.elements) == 1 + starts
