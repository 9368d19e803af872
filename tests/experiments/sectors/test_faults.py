"""Faults of cameras: each changes its own cameras at its own time, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bevstack.experiments.sectors.faults import (
    CHANGES,
    FIT_FAULTS,
    TEST_FAULTS,
    Fault,
    FaultyDrive,
    draw_faults,
)
from bevstack.types import Frame
from tests.uncertainty.rigs import NAMES, ring_frame

STEP_US = 500_000
START_US = 1_600_000_000_000_000


def drive(count: int = 6) -> list[Frame]:
    """Return frames whose pictures differ, with a pose at every camera's time."""
    frames = []
    for index in range(count):
        frame = ring_frame(time_us=START_US + index * STEP_US, x_m=2.0 * index)
        assert frame.world_from_ego is not None
        draw = np.random.default_rng(index)
        images = [draw.integers(60, 200, (48, 80, 3), dtype=np.uint8) for _ in NAMES]
        times = tuple(frame.timestamp_us + 1000 * row for row in range(len(NAMES)))
        poses = frame.world_from_ego.repeat(len(NAMES), 1, 1)
        frames.append(
            replace(frame, images=images, camera_timestamp_us=times, world_from_ego_at_camera=poses)
        )
    return frames


def injected(kind: str, strength: float = 1.0) -> list[tuple[Frame, Frame]]:
    """Return frames before and after a fault of camera 1 in frames 2 and 3."""
    injector = FaultyDrive([Fault(kind, 1, 2, 4, strength)], np.random.default_rng(7))
    return [(frame, injector.inject(frame)) for frame in drive()]


@pytest.mark.filterwarnings("ignore::bevstack.times.StaleCameraWarning")
@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_a_fault_changes_its_camera_in_its_time_alone(kind: str) -> None:
    for index, (before, after) in enumerate(injected(kind, 9.0 if kind != "covered" else 0.8)):
        same = [
            np.array_equal(one, other)  # type: ignore[arg-type]
            and before.camera_timestamp_us[row] == after.camera_timestamp_us[row]
            for row, (one, other) in enumerate(zip(before.images, after.images, strict=True))
        ]
        assert same == [True, index not in (2, 3), True, True]


@pytest.mark.filterwarnings("ignore::bevstack.times.StaleCameraWarning")
def test_faults_of_time_carry_the_pose_of_their_picture() -> None:
    frames = drive()
    late, stale, frozen = (injected(kind) for kind in ("late", "stale", "frozen"))
    for index in (2, 3):
        poses = late[index][1].world_from_ego_at_camera
        assert poses is not None and float(poses[1, 0, 3]) == 2.0 * (index - 1)
        assert np.array_equal(late[index][1].images[1], frames[index - 1].images[1])
        assert np.array_equal(stale[index][1].images[1], frames[1].images[1])
        assert stale[index][1].camera_timestamp_us[1] == frames[1].camera_timestamp_us[1]
        assert np.array_equal(frozen[index][1].images[1], frames[1].images[1])
        assert frozen[index][1].camera_timestamp_us[1] == frames[index].camera_timestamp_us[1]
    assert late[2][1].camera_mask is not None and bool(late[2][1].camera_mask[1])


def test_lost_and_rejected_cameras_have_no_picture() -> None:
    for kind in ("missing", "rejected"):
        frame = injected(kind)[2][1]
        assert frame.camera_mask is not None
        assert frame.images[1] is None and not bool(frame.camera_mask[1])
        assert frame.rejected_cameras == ((NAMES[1],) if kind == "rejected" else ())


def test_pictures_change_as_the_strength_demands() -> None:
    def picture(kind: str, strength: float) -> np.ndarray:
        image = injected(kind, strength)[2][1].images[1]
        assert image is not None
        return image.astype(np.float64)

    clean = drive()[2].images[1]
    assert clean is not None
    assert picture("black", 3.0).mean() < 3
    assert (picture("over_exposed", 8.0) == 255).mean() > 0.99
    assert np.std(picture("noise", 20.0) - clean) == pytest.approx(20.0, abs=1.5)
    assert picture("blurred", 16.0).std() < 0.7 * clean.std()
    assert (np.abs(picture("covered", 0.8) - (70, 60, 48)).max(-1) < 12).mean() > 0.7


def test_draws_are_reproducible_and_leave_a_camera() -> None:
    def draws(seed: int) -> Sequence[Fault]:
        draw = np.random.default_rng(seed)
        return [fault for _ in range(60) for fault in draw_faults(TEST_FAULTS, 6, 10, draw)]

    assert draws(3) == draws(3) != draws(4)
    draw = np.random.default_rng(0)
    for _ in range(80):
        faults = draw_faults(TEST_FAULTS, 6, 10, draw)
        cameras = [fault.camera for fault in faults]
        assert len(set(cameras)) == len(cameras) <= 5
        for fault in faults:
            low, high = TEST_FAULTS[fault.kind]
            assert 1 <= fault.start < fault.end and low <= fault.strength <= high
    assert {fault.kind for fault in draws(5)} == set(TEST_FAULTS)


def test_the_measurement_has_kinds_and_strengths_beyond_those_of_the_fit() -> None:
    assert len(TEST_FAULTS.keys() - FIT_FAULTS.keys()) >= 5
    for kind, (low, high) in FIT_FAULTS.items():
        wanted = TEST_FAULTS[kind]
        assert wanted != (low, high) or low == high  # a kind without strength is the same


def test_frames_without_times_of_their_cameras_are_refused() -> None:
    injector = FaultyDrive([], np.random.default_rng(0))
    with pytest.raises(ValueError, match="must have the times of their cameras"):
        injector.inject(ring_frame())
