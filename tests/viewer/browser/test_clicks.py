"""Clicks on boxes in headless Chromium: the panel shows the box that was clicked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from bevstack.viewer.moment import BoxArrays, ErrorKind, Moment
from tests.viewer.browser.chromium import Tab
from tests.viewer.browser.pages import click_at, client_of, details, pixels, wait_until

DETECTIONS, TRACKS = 0, 1


def show(viewer: Any, tab: Tab, **fields: Any) -> Moment:
    """Show a frame, and return it."""
    viewer.change(partial(replace, **fields))
    wait_until(lambda: viewer.shown[1] == viewer.state, "the frame is not shown")
    return viewer.shown[0]


def alone_in_view(viewer: Any, boxes: BoxArrays, every: list[BoxArrays]) -> tuple[int, np.ndarray]:
    """Return a box whose middle no other box touches in the view, and the pixel of its middle."""
    pose = viewer.pose(*viewer.shown)
    client = client_of(viewer)
    width, height = client.camera.image_width, client.camera.image_height

    def in_view(points_m: np.ndarray) -> np.ndarray:  # (..., 3) -> (..., 2)
        placed = points_m.reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]
        return pixels(client, placed).reshape(*points_m.shape[:-1], 2)

    every = [shown[shown.center_m[:, 0] > -8] for shown in every]  # before the camera
    corners = in_view(np.concatenate([shown.corners() for shown in every]))  # (D, 8, 2)
    low, high = corners.min(1) - 2, corners.max(1) + 2
    centers = np.concatenate([shown.center_m for shown in every])
    for row in np.argsort(boxes.distance_m).tolist():
        place = in_view(boxes.center_m[row])
        over = ((place > low) & (place < high)).all(1)
        over &= np.linalg.norm(centers - boxes.center_m[row], axis=1) > 1e-6
        inside = (place > 15).all() and place[0] < width - 15 and place[1] < 0.65 * height
        if inside and boxes.center_m[row, 0] > 2 and not over.any():
            return row, place
    raise AssertionError("no box of the world stands alone in the view")


def facts_after_click(
    viewer: Any, tab: Tab, place: np.ndarray, wanted: tuple[int, int]
) -> dict[str, str]:
    """Click where the panel is still empty; return what it shows of the wanted model and box."""
    facts_shown = tab.page.locator("#details tr")
    wait_until(lambda: facts_shown.count() == 0, "the panel shows a box before the click")
    click_at(tab.page, place)
    wait_until(lambda: viewer.shown[1].picked is not None, "the click does not reach the viewer")
    picked = viewer.shown[1].picked
    assert (picked.model, picked.row) == wanted
    wait_until(lambda: facts_shown.count() > 3, "the panel shows nothing")
    return details(tab.page)


def test_a_click_on_a_detection_shows_its_facts_and_errors(viewer: Any, tab: Tab) -> None:
    moment = show(viewer, tab, layers=frozenset({"predicted", "faces"}), index=1)
    predicted = moment.predicted[DETECTIONS]
    kinds = moment.predicted_kinds(DETECTIONS, 2.0)
    rows = np.flatnonzero(kinds == ErrorKind.TRUE_POSITIVE)
    row, place = alone_in_view(
        viewer, predicted.boxes[rows], [model.boxes for model in moment.predicted]
    )
    row = int(rows[row])
    facts = facts_after_click(viewer, tab, place, (DETECTIONS, row))
    boxes = predicted.boxes
    length, width, height = boxes.size_m[row]
    assert facts["class"] == moment.class_names[boxes.label[row]].replace("_", " ")
    assert facts["source"] == "model"
    assert facts["score"] == f"{predicted.score[row]:.2f}"
    assert facts["size"] == f"{length:.2f} x {width:.2f} x {height:.2f} m"
    assert facts["speed"] == f"{np.hypot(*boxes.velocity_mps[row]):.2f} m/s"
    assert facts["distance"] == f"{np.hypot(*boxes.center_m[row, :2]):.1f} m"
    assert facts["result"] == "true positive at 2 m"
    same = moment.true.center_m[moment.true.label == boxes.label[row]]
    apart = np.linalg.norm(same[:, :2] - boxes.center_m[row, :2], axis=1)
    shown = float(facts["position error"].removesuffix(" m"))
    assert np.abs(apart - shown).min() < 0.0051 and shown < 2.0
    for name in ("size, 1 - IoU error", "heading error", "velocity error", "attribute error"):
        assert name in facts


@pytest.mark.parametrize("follow", [True, False])
def test_a_click_on_a_track_shows_its_history_and_one_beside_it_nothing(
    follow: bool, viewer: Any, tab: Tab
) -> None:
    moment = show(
        viewer, tab, layers=frozenset({"predicted"}), min_score=0.74, index=3, follow=follow
    )
    tracks = moment.predicted[TRACKS].boxes
    seen_before = {t.identity: t for t in moment.trails if t.source == "tracks"}
    rows = np.flatnonzero(np.isin(tracks.identity, list(seen_before)))
    shown = moment.shown(DETECTIONS, 0.74, viewer.state.labels)
    every = [moment.predicted[DETECTIONS].boxes[shown], tracks]
    row, place = alone_in_view(viewer, tracks[rows], every)
    row = int(rows[row])
    facts = facts_after_click(viewer, tab, place, (TRACKS, row))
    trail = seen_before[int(tracks.identity[row])]
    steps = np.linalg.norm(np.diff(trail.points_m[:, :2], axis=0), axis=1).sum()
    assert facts["class"] == "car" and facts["track"] == str(trail.identity)
    assert facts["seen for"] == f"{-trail.times_s[0]:.1f} s, {steps:.1f} m driven"
    click_at(tab.page, np.array((3.0, 3.0)))  # the sky
    wait_until(lambda: viewer.shown[1].picked is None, "a click beside the boxes keeps the box")
