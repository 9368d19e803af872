"""Boxes of parts of one housing, which show one light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bevstack.config.element_tracking import ElementTrackingConfig
from bevstack.tracking.elements import update_elements
from bevstack.types.rig_view import RigView
from bevstack.types.traffic_detections import TrafficDetections
from tests.planning.drives import Noise, Post, detect, pose_at, view_at

CONFIG = ElementTrackingConfig()


def boxes_of(found: TrafficDetections, parts: list[tuple[float, float, float, float]]):
    """Return detections with parts of the first box, in its widths and heights."""
    left, top, right, bottom = found.boxes_px[0]
    unit = np.array([right - left, bottom - top] * 2)
    rows = found[np.zeros(len(parts), np.int64)]
    moved = np.array([left, top] * 2) + np.array(parts) * unit
    # Parts of one housing are at its distance, their places beside one another
    middle = (moved[:, 0] + moved[:, 2]) / 2 - (left + right) / 2
    focal = view_at(pose_at(0.0), 0.0).intrinsics[0, 0, 0]
    place = rows.position_m.copy()
    place[:, 1] -= middle / focal * place[:, 0]
    scores = np.linspace(0.9, 0.5, len(parts))
    return replace(rows, boxes_px=moved, position_m=place, scores=scores)


WIDE = [(-1.0, 0.3, 2.0, 0.7)]  # a horizontal housing, three times as wide as the post's
HALVES = [(-1.0, 0.3, 0.8, 0.7), (0.2, 0.3, 2.0, 0.7)]  # two boxes of it, a third of each shared


SIDES = [(-1.2, 0.3, 0.2, 0.7), (0.8, 0.3, 2.2, 0.7)]  # two boxes with a gap, 0.7 m apart


def front_of(post: Post, time_s: float) -> tuple[RigView, TrafficDetections]:
    """Return the standing vehicle's view and the box of a post in its front camera."""
    view = view_at(pose_at(0.0), time_s)
    found = detect([post], view, time_s, np.random.default_rng(7), Noise(missed=0, bias=0))
    return view, found[found.camera == 0]


def test_a_part_box_continues_no_element_beside_the_box_of_the_whole() -> None:
    """Two elements of one housing, from two boxes: the whole one's box ends the second."""
    post, scene = Post((25.0, 0.0, 5.0)), None
    for k in range(12):
        view, found = front_of(post, k / 12)
        scene = update_elements(scene, boxes_of(found, HALVES), view, CONFIG)
    assert scene is not None and len(scene.elements) == 2
    counts = []
    for k in range(12, 36):
        view, found = front_of(post, k / 12)
        # the second box is half of the housing, and worse
        scene = update_elements(scene, boxes_of(found, [*WIDE, (0.6, 0.3, 2.0, 0.7)]), view, CONFIG)
        counts.append(len(scene.elements))
        assert scene.seen.sum() <= 1  # the part is no look at a second light
    assert scene.seen.tolist() == [True]
    # from 4 log-odds to -1.5 at 8 per second, where missed looks alone take 4.6 s
    assert counts[-1] == 1 and counts.index(1) <= 9


def test_a_second_element_of_a_housing_ends_soon_without_boxes_of_its_own() -> None:
    post, scene = Post((25.0, 0.0, 5.0)), None
    for k in range(12):
        view, found = front_of(post, k / 12)
        scene = update_elements(scene, boxes_of(found, SIDES), view, CONFIG)
    assert scene is not None and len(scene.elements) == 2
    counts = []
    for k in range(12, 36):
        view, found = front_of(post, k / 12)
        scene = update_elements(scene, boxes_of(found, WIDE), view, CONFIG)
        counts.append(len(scene.elements))
    assert counts[-1] == 1 and counts.index(1) <= 9


@pytest.mark.parametrize("far_m", [45.0, 80.0])
def test_a_far_light_behind_the_box_of_a_near_one_is_kept_as_any_hidden_light(far_m: float) -> None:
    near = Post((25.0, 0.0, 5.0), hidden=(0.0, 1.0))
    far = Post((far_m, 0.0, 1.5 + (5.0 - 1.6) * far_m / 25.0))
    scene, rng = None, np.random.default_rng(3)
    for k in range(24):
        time_s = k / 12
        view = view_at(pose_at(0.0), time_s)
        posts = [far] if time_s < 1 else [near]
        found = detect(posts, view, time_s, rng, Noise(missed=0, bias=0))
        scene = update_elements(scene, found[found.camera == 0], view, CONFIG)
    assert scene is not None and len(scene.elements) == 2  # 1 s costs 1.2 of the log-odds


def test_two_lights_side_by_side_stay_two() -> None:
    posts, scene = [Post((25.0, y, 5.0)) for y in (0.0, 0.5)], None
    rng = np.random.default_rng(5)
    for k in range(36):
        view = view_at(pose_at(0.0), k / 12)
        found = detect(posts, view, k / 12, rng, Noise(missed=0.2, bias=0))
        scene = update_elements(scene, found[found.camera == 0], view, CONFIG)
    assert scene is not None and len(scene.elements) == 2
