"""The node's core under faults of cameras, motion, calibration, clock and detector."""

from __future__ import annotations

import dataclasses
import itertools
import random

import cv2
import numpy as np
import pytest
import torch

from bevstack.export.messages.status import ERROR, OK, WARN, Status
from bevstack.runtime.detector import build
from bevstack.runtime.node.cameras import PICTURE_REASONS, InputState
from bevstack.runtime.node.core import NodeCore
from bevstack.runtime.node.diagnostics import Diagnostician
from bevstack.runtime.node.inputs import Image
from bevstack.types.health import HINTS, CameraState
from tests.runtime.node.feeding import FAULTS, Feed, healthy, killed
from tests.runtime.node.inputs import (
    CAMERAS,
    OFFSETS_US,
    PERIOD_US,
    SIZE,
    START_US,
    FakeDetector,
    file_image,
    info,
    make_core,
    mounted,
    odometry,
)
from tests.small_world import CONFIG


def statuses(core: NodeCore, now_us: int) -> dict[str, Status]:
    """Return the diagnostics by task."""
    found = Diagnostician(core, model="fake", times=True).statuses(now_us)
    assert all(status.name.startswith("bevstack: ") for status in found)
    return {status.name.removeprefix("bevstack: "): status for status in found}


def states(core: NodeCore, now_us: int) -> dict[str, str]:
    """Return the state of each camera."""
    return {c.name: c.state.value for c in core.camera_statuses(now_us)}


def test_a_healthy_rig_gives_one_result_a_cycle_with_all_poses_interpolated() -> None:
    core, detector = make_core()
    feed = Feed(core)
    results = feed.run(12)
    assert [r.timestamp_us for _, r in results] == [START_US + k * PERIOD_US for k in range(12)]
    for (now_us, result), frame in zip(results, detector.frames, strict=True):
        assert result.frame is frame and not result.pose_gap
        assert frame.camera_names == CAMERAS and bool(frame.camera_mask.all())
        # Closed when the pose after the last camera's stamp has come, 30 ms after the first.
        assert now_us - result.timestamp_us <= 60_000
        own = [result.timestamp_us + OFFSETS_US[camera] for camera in CAMERAS]
        assert list(frame.camera_timestamp_us) == own
        expected = [5e-6 * (stamp - START_US) for stamp in own]
        assert frame.world_from_ego_at_camera is not None
        assert frame.world_from_ego_at_camera[:, 0, 3].tolist() == pytest.approx(expected, abs=1e-9)
        assert len(result.detections) == len(CAMERAS) and result.tracks is not None
    assert len(results[-1][1].tracks or ()) >= len(CAMERAS)
    last = statuses(core, feed.now_us)
    assert {name: s.level for name, s in last.items()} == dict.fromkeys(last, OK)
    values = dict(last["camera_CAM_BACK"].values)
    assert values["rate_hz"] == "10.0" and values["used"] == "12" and values["faults"] == "0"
    assert float(dict(last["inference"].values)["total_ms"]) > 0


SLOW = pytest.mark.slow  # the two cameras between the first and the last: 0.5 s each


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize(
    "camera", [CAMERAS[0], *(pytest.param(c, marks=SLOW) for c in CAMERAS[1:-1]), CAMERAS[-1]]
)
def test_a_faulty_camera_is_masked_and_named_and_recovers(name: str, camera: str) -> None:
    fault, state = FAULTS[name]
    core, _ = make_core(track=False)
    feed = Feed(core)
    feed.run(3)
    feed.faults = {camera: fault}
    within_1_s = feed.run(10)
    assert states(core, feed.now_us)[camera] in (state, "late") and len(within_1_s) >= 9
    assert statuses(core, feed.now_us)[f"camera_{camera}"].level in (WARN, ERROR)
    results = feed.run(10)
    assert len(results) >= 9  # 90 % of the nominal rate
    expected = {c: state if c == camera else "ok" for c in CAMERAS}
    assert states(core, feed.now_us) == expected
    usable = name in ("duplicated", "reordered")
    for _, result in results:
        mask = dict(zip(result.frame.camera_names, result.frame.camera_mask.tolist(), strict=True))
        assert mask == {c: usable or c != camera for c in CAMERAS}
    feed.faults = {}
    recovered = feed.run(3)
    assert len(recovered) == 3 and bool(recovered[-1][1].frame.camera_mask.all())
    feed.run(12)
    assert set(states(core, feed.now_us).values()) == {"ok"}


def test_any_five_of_the_cameras_may_die() -> None:
    for count in range(1, len(CAMERAS)):
        # One set of each size here; the test above and random faults have the remaining ones.
        for dead in itertools.islice(itertools.combinations(CAMERAS, count), count, count + 1):
            core, _ = make_core(track=False)
            feed = Feed(core)
            feed.run(2)
            feed.faults = dict.fromkeys(dead, killed)
            results = feed.run(20)
            assert len(results) >= 18
            found = statuses(core, feed.now_us)
            for camera in CAMERAS:
                level = found[f"camera_{camera}"].level
                assert level == (ERROR if camera in dead else OK)
            message = found[f"camera_{dead[0]}"].message
            assert f"missing: no image on /{dead[0]}/image_raw/compressed for" in message


def test_without_any_camera_nothing_is_published_and_diagnostics_go_on() -> None:
    core, _ = make_core()
    feed = Feed(core)
    feed.run(3)
    feed.faults = dict.fromkeys(CAMERAS, killed)
    before = len(feed.results)
    feed.run(30)
    assert len(feed.results) == before
    found = statuses(core, feed.now_us)
    assert found["inference"].level == ERROR
    assert found["inference"].message == "all cameras are lost: see their states"
    feed.faults = {}
    results = feed.run(5)
    assert len(results) == 5 and len(results[-1][1].frame.images) == len(CAMERAS)


def test_a_rig_that_never_sent_anything_is_named_from_the_start() -> None:
    core = NodeCore(FakeDetector(), make_core()[0].parameters)
    found = statuses(core, START_US)
    message = found["camera_CAM_FRONT"].message
    assert message.startswith("missing: no image on /CAM_FRONT/image_raw/compressed yet")
    assert found["inference"].level == ERROR
    assert dict(found["inference"].values)["total_ms"] == "n/a"


def test_a_camera_without_calibration_or_place_is_no_part_of_the_frame() -> None:
    core = NodeCore(FakeDetector(), make_core()[0].parameters)
    for camera in CAMERAS[:3]:
        core.add_transform(mounted(camera))
        if camera != CAMERAS[1]:
            core.add_info(camera, info(camera), START_US)
    core.add_info(CAMERAS[3], info(CAMERAS[3]), START_US)
    for now_us, camera in enumerate(CAMERAS, START_US):
        core.add_odometry(odometry(now_us))
        core.add_image(camera, file_image(camera, now_us), now_us)
    core.add_odometry(odometry(START_US + 9))
    assert core.close_due(START_US + 9) == []  # a camera without calibration may still get one
    end_us = core.next_deadline_us() or 0
    (window,) = core.close_due(end_us)
    result = core.step(window, end_us)
    assert result is not None and result.frame.camera_names == (CAMERAS[0], CAMERAS[2])
    found = statuses(core, START_US + 10)
    assert "waiting_camera_info: no camera_info on /CAM_FRONT_RIGHT/camera_info yet" in (
        found["camera_CAM_FRONT_RIGHT"].message
    )
    assert "no_transform: no transform from 'cam_back_optical_frame' to base_link: publish" in (
        found["camera_CAM_BACK"].message
    )


def test_damage_that_only_decoding_finds_masks_the_camera() -> None:
    core, _ = make_core()
    data = bytearray(file_image("CAM_BACK", START_US).data)
    data[-60:-40] = b"\x00\x11" * 10

    def damaged(camera: str, stamp_us: int) -> list[tuple[int, object]]:
        return [(stamp_us, file_image(camera, stamp_us, bytes(data)))]

    feed = Feed(core, {"CAM_BACK": damaged})  # type: ignore[dict-item]
    results = feed.run(4)
    assert all(r.frame.camera_mask.tolist() == [True, True, True, False] for _, r in results)
    assert len(results) == 4
    message = statuses(core, feed.now_us)["camera_CAM_BACK"].message
    assert message.startswith("rejected: image must be undamaged; got the message in cam_back")


def test_without_poses_frames_are_predicted_alone_and_the_reason_is_given() -> None:
    core, detector = make_core()
    for cycle in range(3):
        for camera in CAMERAS:
            now_us = START_US + cycle * PERIOD_US + OFFSETS_US[camera]
            core.add_image(camera, file_image(camera, now_us), now_us)
        now_us += 60_000
        for window in core.close_due(now_us):
            result = core.step(window, now_us)
            assert result is not None and result.tracks is None and len(result.detections) == 4
            assert result.pose_gap == "no pose was received"
    assert len(detector.singles) == 3 and detector.frames == []
    found = statuses(core, now_us)["motion"]
    assert found.level == ERROR and "no pose was received: publish base_link in odom" in (
        found.message
    )


def test_a_standing_vehicle_is_a_choice_and_a_warning() -> None:
    core, detector = make_core(ego_motion="none")
    feed = Feed(core)
    results = feed.run(3)
    assert len(results) == 3 and len(detector.frames) == 3
    assert all(torch.equal(f.world_from_ego, torch.eye(4).double()) for f in detector.frames)
    found = statuses(core, feed.now_us)["motion"]
    assert found.level == WARN and "counts as standing: set ego_motion" in found.message


@pytest.mark.parametrize(
    ("jump_us", "reason"),
    [(-3_600_000_000, "time went back by 3600"), (7_000_000, "time went ahead by 7")],
)
def test_a_jump_of_time_starts_another_drive(jump_us: int, reason: str) -> None:
    core, detector = make_core()
    feed = Feed(core)
    feed.run(5)
    feed.start_us += jump_us
    results = feed.run(5)
    assert len(results) == 5 and core.counts.restarts == 1
    assert len(detector.streams) == 2 and len(detector.streams[1].frames) == 5
    drives = [result.drive for _, result in feed.results]
    assert len(set(drives[:5])) == len(set(drives[5:])) == 1 and drives[0] != drives[-1]
    assert {f.scene_token for f in detector.streams[1].frames} == {drives[-1]}
    assert reason in statuses(core, feed.now_us)["inference"].message


def test_a_refused_frame_is_named_and_the_next_one_is_used() -> None:
    core, detector = make_core()
    feed = Feed(core)
    feed.run(2)
    detector.streams[0].refuse = True
    assert feed.run(2) == [] and core.counts.refused == 2
    found = statuses(core, feed.now_us)["inference"]
    assert found.level == ERROR and "the last frame was refused: frame must be usable" in (
        found.message
    )
    detector.streams[0].refuse = False
    assert len(feed.run(2)) == 2
    assert statuses(core, feed.now_us)["inference"].level == OK


def test_results_are_not_published_when_they_are_old() -> None:
    core, _ = make_core(max_age_ms=500)
    feed = Feed(core)
    (_, result) = feed.run(2)[-1]
    assert not core.is_too_old(result, result.timestamp_us + 500_000)
    assert core.is_too_old(result, result.timestamp_us + 500_001) and core.counts.too_old == 1


def test_a_changed_calibration_is_taken_up_and_reported() -> None:
    core, _ = make_core()
    feed = Feed(core)
    feed.run(2)
    sharper = info("CAM_FRONT", k=np.diag((2.0, 2.0, 1.0)) @ info("CAM_FRONT").k)
    core.add_info("CAM_FRONT", sharper, feed.now_us)
    found = statuses(core, feed.now_us)
    assert found["calibration"].level == WARN and found["calibration"].message.startswith("1 chang")
    broken = info("CAM_FRONT", k=np.zeros((3, 3)))
    core.add_info("CAM_FRONT", broken, feed.now_us)
    assert core.cameras["CAM_FRONT"].calibration is not None
    assert "camera_info.K must be calibrated" in (
        statuses(core, feed.now_us)["camera_CAM_FRONT"].message
    )


def test_a_changed_parameter_holds_from_the_next_window_on() -> None:
    core, _ = make_core()
    feed = Feed(core, {"CAM_BACK": FAULTS["late"][0]})
    slow = feed.run(10)
    # Its first image comes 250 ms late; from then on, windows wait for it.
    assert all(now - r.timestamp_us >= 60_000 for now, r in slow[4:])
    core.parameters.set("sync_timeout_ms", 30)
    fast = feed.run(10)
    assert all(now - r.timestamp_us <= 31_000 for now, r in fast[1:]) and len(slow[4:]) > 3


def test_a_skipped_window_leaves_no_image_behind() -> None:
    core, _ = make_core()
    for cycle in range(50):
        for camera in CAMERAS:
            now_us = START_US + cycle * PERIOD_US + OFFSETS_US[camera]
            core.add_image(camera, file_image(camera, now_us), now_us)
        for window in core.close_due(now_us + 60_000):
            core.skip(window)
    assert core.counts.skipped == 50 == core.counts.windows
    assert all(not camera._images for camera in core.cameras.values())


def test_every_state_of_a_stream_is_one_of_the_node() -> None:
    assert {state.value for state in CameraState} <= {state.value for state in InputState}
    pictures = {state for state in InputState if state in PICTURE_REASONS}
    hints = {InputState(state.value) for state in HINTS}  # named, and their cameras are used
    assert {state for state in pictures if not state.loses_camera} == hints
    assert {state.value for state in pictures} == {
        state.value
        for state in CameraState
        if state.name not in ("REJECTED", "MISSING", "STALE", "OUT_OF_ORDER", "LATE")
        and state.name not in ("DUPLICATE", "OK")
    }


def test_a_black_and_a_frozen_camera_are_named_by_the_stream_that_masks_them() -> None:
    core = NodeCore(build(CONFIG), make_core(track=False)[0].parameters)
    for camera in CAMERAS:
        core.add_transform(mounted(camera))
        core.add_info(camera, info(camera), START_US)
    black = cv2.imencode(".jpg", np.zeros((*SIZE, 3), np.uint8))[1].tobytes()
    frozen = file_image("CAM_BACK", START_US).data
    given = {"CAM_FRONT": black, "CAM_BACK": frozen}

    def picture_of(camera: str, stamp_us: int) -> list[tuple[int, Image]]:
        return [(stamp_us, file_image(camera, stamp_us, given.get(camera)))]

    feed = Feed(core, dict.fromkeys(CAMERAS, picture_of))
    results = feed.run(4)  # 0.5 m a cycle
    assert len(results) == 4
    found = statuses(core, feed.now_us)
    assert found["camera_CAM_FRONT"].message == (
        "black: pictures are black: check the lens cap and the exposure"
    )
    assert found["camera_CAM_BACK"].message.startswith("frozen: the picture stays the same")
    assert found["camera_CAM_FRONT"].level == found["camera_CAM_BACK"].level == ERROR
    assert dict(found["camera_CAM_FRONT"].values)["used"] == "0"


def test_random_faults_in_every_camera_never_stop_the_node() -> None:
    rng = random.Random(7)
    core, _ = make_core()
    feed = Feed(core)
    for _ in range(40):
        feed.faults = {
            camera: rng.choice([healthy, *(fault for fault, _ in FAULTS.values())])
            for camera in CAMERAS
        }
        feed.run(2)
        times = [result.timestamp_us for _, result in feed.results]
        assert times == sorted(set(times))
        assert all(dataclasses.is_dataclass(s) for s in statuses(core, feed.now_us).values())
    feed.faults, start_us = {}, feed.start_us
    assert [r.timestamp_us for _, r in feed.run(5) if r.timestamp_us >= start_us] == [
        start_us + cycle * PERIOD_US for cycle in range(5)
    ]
