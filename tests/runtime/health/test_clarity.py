"""Noise and blur are judged against the camera's own past and the rest of the rig."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bevstack.config.health import HealthConfig
from bevstack.runtime.health.clarity import Measured, RigClarity
from bevstack.runtime.health.pictures import measure_picture
from bevstack.types.health import CameraState
from tests.runtime.health.frames import STEP_US, texture

OK, NOISE, BLURRED = CameraState.OK, CameraState.NOISE, CameraState.BLURRED
LABELS = ("A", "B", "C", "D")
LARGE = (144, 256)


def clear(number, size=LARGE):
    return texture(number, size)[..., 0]


def soft(number, size=LARGE):
    return cv2.GaussianBlur(clear(number, size), (0, 0), 2.5)


def grainy(number, size=LARGE):
    noise = np.random.default_rng(number).normal(0, 25, size)
    return np.clip(clear(number, size) + noise, 0, 255).astype(np.uint8)


def run(pictures, config=None):
    """Judge the pictures of several moments; return the last states of the cameras."""
    judge = RigClarity(config or HealthConfig())
    for number, row in enumerate(pictures):
        measured = {
            camera: Measured(measure_picture(grey), number * STEP_US)
            for camera, grey in enumerate(row)
        }
        states = judge.judge([OK] * len(row), measured, LABELS[: len(row)])
    return states


def moments(before, after, size=LARGE, cameras=1):
    """Give twelve moments of one kind of picture, then twenty of another, of the first camera."""
    rows = []
    for number in range(32):
        kind = before if number < 12 else after
        rest = [clear(10 * number + i, size) for i in range(1, cameras)]
        rows.append([kind(10 * number, size), *rest])
    return rows


@pytest.mark.parametrize(("damage", "state"), [(soft, BLURRED), (grainy, NOISE)])
@pytest.mark.parametrize("cameras", [1, 3])
def test_damage_that_comes_during_the_drive_is_named(damage, state, cameras):
    assert run(moments(clear, damage, cameras=cameras)) == [state, *[OK] * (cameras - 1)]


@pytest.mark.parametrize(("damage", "state"), [(soft, BLURRED), (grainy, NOISE)])
def test_damage_from_the_start_is_named_if_two_other_cameras_are_clear(damage, state):
    assert run(moments(damage, damage, cameras=3)) == [state, OK, OK]
    assert run(moments(damage, damage, cameras=2)) == [OK, OK]  # nothing to compare with
    assert run(moments(damage, damage, cameras=1)) == [OK]


@pytest.mark.parametrize("kind", [soft, grainy])
def test_what_all_cameras_show_is_the_lens_or_the_weather(kind):
    assert run([[kind(10 * n + i) for i in range(4)] for n in range(32)]) == [OK] * 4
    onset = [[(clear if n < 12 else kind)(10 * n + i) for i in range(4)] for n in range(32)]
    assert run(onset) == [OK] * 4


@pytest.mark.parametrize("kind", [soft, grainy])
def test_small_pictures_are_not_judged(kind):
    rows = moments(clear, kind, (48, 96), cameras=3)
    assert run(rows) == [OK] * 3
    assert run(rows, HealthConfig(min_side_px=16)) != [OK] * 3


def test_a_wall_without_edges_is_not_blurred():
    def wall(number, size=LARGE):
        noise = np.random.default_rng(number).normal(0, 12, size)
        ramp = np.linspace(90, 110, size[1])[None].repeat(size[0], 0)
        return np.clip(cv2.GaussianBlur(ramp + noise, (0, 0), 2.5), 0, 255).astype(np.uint8)

    assert measure_picture(wall(0)).sharpness < HealthConfig().min_sharpness
    assert run(moments(clear, wall, cameras=3)) == [OK] * 3
    anything = HealthConfig(min_texture=0.0)  # the limit alone makes the difference
    assert run(moments(clear, wall, cameras=3), anything) == [BLURRED, OK, OK]


def test_damage_lasts_until_it_ends():
    """A damaged camera does not become its own reference, however long it stays damaged."""
    long = moments(clear, soft, cameras=3) + [
        [soft(n), clear(n + 1), clear(n + 2)] for n in range(400, 1200, 10)
    ]
    assert run(long)[0] is BLURRED
    assert run([*long, [clear(0), clear(1), clear(2)]])[0] is OK


def test_the_evidence_needs_a_second():
    judge = RigClarity(HealthConfig())
    found = []
    for number, row in enumerate(moments(clear, soft)):
        one = Measured(measure_picture(row[0]), number * STEP_US)
        found += judge.judge([OK], {0: one}, LABELS[:1])
    assert set(found[:24]) == {OK} and set(found[24:]) == {BLURRED}
