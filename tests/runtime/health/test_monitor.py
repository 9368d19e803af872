"""States of cameras by times and pictures, and the mask that follows from them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.config.health import HealthConfig
from bevstack.runtime.health import HealthMonitor
from bevstack.types.health import USABLE, CameraState
from tests.runtime.health.frames import (
    HEIGHT,
    NAMES,
    START_US,
    STEP_US,
    WIDTH,
    frame,
    pose,
    texture,
)

OK = CameraState.OK


def run(frames, config=None):
    """Return the monitor, and the frames and states that it gives."""
    monitor = HealthMonitor(config)
    admitted, states = [], []
    for one in frames:
        admitted.append(monitor.admit(one))
        states.append(tuple(monitor.states[name] for name in NAMES))
    return admitted, states


def with_times(number, front_us, **changes):
    time_us = START_US + number * STEP_US
    return frame(number, camera_timestamp_us=(front_us, time_us), **changes)


def test_a_clean_drive_is_ok_and_its_frames_stay_as_they_are():
    frames = [frame(number) for number in range(12)]
    admitted, states = run(frames)
    assert set(states) == {(OK, OK)}
    assert all(one is other for one, other in zip(admitted, frames, strict=True))


def test_a_frame_that_is_given_twice_is_judged_once():
    monitor = HealthMonitor()
    monitor.admit(frame(0))
    black = frame(1, images=[np.zeros((HEIGHT, WIDTH, 3), np.uint8), texture(11)])
    first = monitor.admit(black)
    assert monitor.admit(black) is first and monitor.admit(first) is first
    assert monitor.states["CAM_BACK"] is OK  # not the duplicate of itself


@pytest.mark.parametrize("number", [0, 5])
def test_missing_and_rejected_cameras_are_named_and_masked(number):
    frames = [frame(i) for i in range(number)]
    lost = frame(number, images=[None, texture(1)])
    refused = frame(number, images=[None, texture(1)], rejected_cameras=("CAM_FRONT",))
    for one, state in ((lost, CameraState.MISSING), (refused, CameraState.REJECTED)):
        admitted, states = run([*frames, one])
        assert states[-1] == (state, OK)
        assert admitted[-1].camera_mask.tolist() == [False, True]


def test_a_rejected_picture_that_is_still_there_is_masked():
    assert frame(0, rejected_cameras=("CAM_BACK",)).camera_mask.tolist() == [True, False]
    with pytest.raises(ValueError, match="rejected_cameras must be cameras of the frame"):
        frame(0, rejected_cameras=("CAM_LEFT",))


def test_a_picture_of_another_size_is_rejected_unless_the_calibration_fits_it_better():
    small = texture(3, (HEIGHT // 2, WIDTH))
    _, states = run([frame(0), frame(1, images=[small, texture(1)]), frame(2)])
    assert [one for one, _ in states] == [OK, CameraState.REJECTED, OK]
    # The first picture was the wrong one: the principal point is the middle of the later ones.
    wrong_first = frame(0, images=[texture(3, (48, WIDTH)), texture(1)])
    _, states = run([wrong_first, frame(1), frame(2)])
    assert [one for one, _ in states] == [OK, OK, OK]


def test_a_late_camera_gets_the_pose_of_its_own_time():
    """The expected pose is that of the drive at constant speed, 10 m/s along x."""
    late_us = START_US + 8 * STEP_US
    frames = [frame(number) for number in range(8)]
    admitted, states = run([*frames, with_times(10, late_us)])
    assert states[-1] == (CameraState.LATE, OK)
    poses = admitted[-1].world_from_ego_at_camera
    assert admitted[-1].camera_mask.all()
    torch.testing.assert_close(poses[0], pose(10.0 * 8 * STEP_US * 1e-6), atol=1e-6, rtol=0)
    torch.testing.assert_close(poses[1], admitted[-1].world_from_ego)


def test_a_late_camera_without_a_known_pose_is_masked():
    late = with_times(10, START_US + 7 * STEP_US, world_from_ego=None)
    admitted, states = run([late])
    assert states == [(CameraState.LATE, OK)]
    assert admitted[0].camera_mask.tolist() == [False, True]


def test_the_limit_of_late_cameras_is_a_field_of_the_configuration():
    late = with_times(10, START_US + 10 * STEP_US - 190_000)
    assert run([late])[1] == [(CameraState.LATE, OK)]
    assert run([late], HealthConfig(max_camera_age_ms=200.0))[1] == [(OK, OK)]


def test_a_camera_beyond_the_limit_of_its_frame_is_stale():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stale = with_times(10, START_US)
    admitted, states = run([stale])
    assert states == [(CameraState.STALE, OK)] and not admitted[0].camera_mask[0]


def test_repeated_and_reordered_pictures_are_named():
    times = [0, 1, 1, 3, 2, 5, 4, 7]
    frames = [with_times(n, START_US + t * STEP_US) for n, t in enumerate(times)]
    admitted, states = run(frames)
    wanted = [OK, OK, CameraState.DUPLICATE, OK, CameraState.OUT_OF_ORDER, OK]
    assert [one for one, _ in states[:6]] == wanted
    assert states[6][0] is CameraState.OUT_OF_ORDER and states[7][0] is OK
    assert [bool(one.camera_mask[0]) for one in admitted[:6]] == [s in USABLE for s in wanted]


def test_time_that_goes_back_and_a_new_scene_start_again():
    _, states = run([frame(5), frame(1), replace(frame(1), scene_token="other")])
    assert set(states) == {(OK, OK)}


@pytest.mark.parametrize(
    ("level", "state"), [(0, CameraState.BLACK), (255, CameraState.OVER_EXPOSED)]
)
def test_black_and_saturated_pictures_are_masked_at_once_and_recover(level, state):
    noise = np.random.default_rng(0).normal(0, 2, (HEIGHT, WIDTH, 3))
    bad = np.clip(level + noise, 0, 255).astype(np.uint8)
    frames = [frame(0), frame(1, images=[bad, texture(11)]), frame(2)]
    admitted, states = run(frames)
    assert [one for one, _ in states] == [OK, state, OK]
    assert admitted[1].camera_mask.tolist() == [False, True]


def test_content_that_stays_while_the_vehicle_drives_is_frozen():
    still = texture(99)
    frames = [frame(n, images=[still, texture(n)]) for n in range(4)]
    admitted, states = run([*frames, frame(4)])
    # 0.83 m a frame: beyond the half metre from the second frame on
    assert [one for one, _ in states] == [OK, *[CameraState.FROZEN] * 3, OK]
    assert admitted[2].camera_mask.tolist() == [False, True]


def test_content_that_stays_while_the_vehicle_stands_is_ok():
    still = texture(99)
    frames = [frame(n, speed_mps=0.0, images=[still, texture(n)]) for n in range(30)]
    assert set(run(frames)[1]) == {(OK, OK)}


def test_a_patch_that_stays_while_the_street_moves_is_a_covered_lens():
    """Cover 3/4 of the picture, which keeps sharp edges beside the patch."""

    def covered(number):
        picture = texture(number)
        noise = np.random.default_rng(number).normal(0, 2, (HEIGHT, 96, 3))
        picture[:, :96] = np.clip(60 + noise, 0, 255)
        return picture

    frames = [frame(n, images=[covered(n), texture(n)]) for n in range(24)]
    _, states = run([*frames, *(frame(n) for n in range(24, 40))])
    front = [one for one, _ in states]
    # 0.83 m a frame: every second picture counts, and the ninth of them is frame 16.
    assert set(front[:16]) == {OK} and set(front[16:24]) == {CameraState.COVERED}
    assert front[39] is OK


@pytest.mark.parametrize("planks", [4, 48])
def test_an_object_in_focus_that_keeps_beside_the_vehicle_covers_no_lens(planks):
    """Let 3/4 of the picture show the side of a lorry: narrow planks, or two smooth parts."""

    def beside_lorry(number, step):
        picture = texture(number)
        noise = np.random.default_rng(number).normal(0, 2, (HEIGHT, 96, 3))
        side = 60.0 + step * (np.arange(96) // planks % 2)[None, :, None]
        picture[:, :96] = np.clip(side + noise, 0, 255)
        return picture

    def last_state(step):
        return run([frame(n, images=[beside_lorry(n, step), texture(n)]) for n in range(24)])[1][-1]

    assert last_state(40) == (OK, OK)
    assert last_state(0) == (CameraState.COVERED, OK)


def test_what_covers_both_cameras_of_a_rig_is_the_weather():
    """Make the pictures grey in fog: they stay, but no lens is to blame."""

    def foggy(number):
        return (200 + texture(number) / 64).astype(np.uint8)

    frames = [frame(n, images=[foggy(n), foggy(n + 5)]) for n in range(24)]
    assert set(run(frames)[1]) == {(OK, OK)}
    alone = [frame(n, images=[foggy(n), texture(n)]) for n in range(24)]
    assert run(alone)[1][-1] == (CameraState.COVERED, OK)


def noisy(number):
    noise = np.random.default_rng(number).normal(0, 40, (HEIGHT, WIDTH, 3))
    return np.clip(texture(number) + noise, 0, 255).astype(np.uint8)


def blurred(number):
    import cv2

    return cv2.GaussianBlur(texture(number), (0, 0), 4.0)


@pytest.mark.parametrize(
    ("damage", "state"), [(noisy, CameraState.NOISE), (blurred, CameraState.BLURRED)]
)
def test_noise_and_blur_need_a_second_of_evidence(damage, state):
    before = [frame(n) for n in range(4)]
    frames = [frame(n, images=[damage(n), texture(n)]) for n in range(4, 24)]
    _, states = run([*before, *frames, frame(24)])
    front = [one for one, _ in states]
    assert set(front[:16]) == {OK}  # 12 intervals of 83 ms are the first full second
    assert set(front[16:24]) == {state} and front[24] is OK


@pytest.mark.parametrize("damage", [noisy, blurred])
@pytest.mark.parametrize("mask_hints", [False, True])
def test_noisy_and_blurred_cameras_are_used_unless_hints_are_masked(damage, mask_hints):
    before = [frame(n) for n in range(4)]
    frames = [frame(n, images=[damage(n), texture(n)]) for n in range(4, 20)]
    monitor = HealthMonitor(HealthConfig(mask_hints=mask_hints))
    admitted = [monitor.admit(one) for one in (*before, *frames)]
    assert monitor.states["CAM_FRONT"] is not OK
    assert admitted[-1].camera_mask.tolist() == [not mask_hints, True]
