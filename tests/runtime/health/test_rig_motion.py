"""Turned cameras of a rig are named after two examinations, unless the poses are to blame."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bevstack.config.health import HealthConfig
from bevstack.runtime.health import rig_motion
from bevstack.runtime.health.motion import View
from bevstack.runtime.health.rig_motion import Look, RigMotion
from bevstack.types.health import CameraState
from tests.runtime.health.frames import START_US, ego_from_cam
from tests.runtime.health.test_motion import INTRINSICS, SIZE, drive, ego_pose, turned

OK, TURNED, SWAPPED = CameraState.OK, CameraState.TURNED, CameraState.SWAPPED
LABELS = ("FRONT", "LEFT", "BACK", "RIGHT")
CAMERAS = [ego_from_cam(math.radians(angle)) for angle in (0, 70, 180, -70)]
GREY = np.zeros(SIZE, np.uint8)


@pytest.fixture(scope="module")
def motions():
    """Return eight motions of each camera, whose points move as the true pose predicts."""
    return [drive(camera) for camera in CAMERAS]


def run(motions, views, monkeypatch, pairs=14):
    """Judge pairs of pictures, one every 0.5 s; return the states after each pair."""
    points: list = []
    monkeypatch.setattr(rig_motion, "track_points", lambda before, after: points.pop(0))
    judge, states, due = RigMotion(HealthConfig()), [], {}
    for pair in range(pairs):
        for which in (0, 1):
            pose, time_us = ego_pose(0.7 * which, 0.01 * which), START_US + 500_000 * pair
            looks = {
                camera: Look(GREY, time_us + 83_000 * which, pose, view)
                for camera, view in enumerate(views)
            }
            if which:  # cameras after the first are examined from the second pair on
                chosen = [i for i in range(len(views)) if pair or not i]
                points[:] = [
                    (motions[i][pair % 8].before, motions[i][pair % 8].after) for i in chosen
                ]
                due[pair] = len(points)
            judged = judge.judge([OK] * len(views), looks, LABELS[: len(views)])
        assert not points and due[pair] > 0  # every camera was examined
        states.append(judged)
    return states


def views_with(turns_deg):
    return [
        View(INTRINSICS, turned(camera, "x", turns_deg.get(index, 0.0)))
        for index, camera in enumerate(CAMERAS)
    ]


def test_a_rig_with_true_calibrations_is_ok(motions, monkeypatch):
    assert run(motions, views_with({}), monkeypatch) == [[OK] * 4] * 14


def test_a_turned_camera_is_named_after_two_examinations(motions, monkeypatch):
    states = run(motions, views_with({0: 4.0}), monkeypatch)
    assert [row[0] for row in states[:8]] == [OK] * 8  # the eighth pair is the first evidence
    assert [row[0] for row in states[8:]] == [TURNED] * 6
    assert all(row[1:] == [OK] * 3 for row in states)


def test_two_turned_cameras_are_named_and_three_are_the_fault_of_the_poses(motions, monkeypatch):
    two = run(motions, views_with({0: 4.0, 1: -4.0}), monkeypatch)
    assert two[-1] == [TURNED, TURNED, OK, OK]
    three = run(motions, views_with({0: 4.0, 1: -4.0, 2: 4.0}), monkeypatch)
    assert three[-1] == [OK] * 4


def test_swapped_cameras_are_named_both(motions, monkeypatch):
    views = views_with({})
    views[0], views[1] = views[1], views[0]
    assert run(motions, views, monkeypatch)[-1] == [SWAPPED, SWAPPED, OK, OK]
