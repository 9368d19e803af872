"""Times in another unit, and cameras that stopped: refused and reported in every stream."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.runtime.detector import build
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.stream_clock import StreamClock
from bevstack.runtime.tracked import TrackedDetector
from bevstack.times import StaleCameraWarning
from bevstack.types import Clip, Frame
from tests.small_world import CONFIG

NOW_US = 1_600_000_000_000_000
UNITS = {"milliseconds": 1000, "seconds": 10**6}


def small_frame(index, *, divisor=1, scene="scene", speed=9.0, spacing_us=500_000, **changes):
    """Return a frame without images of a drive whose times are divided by ``divisor``."""
    pose = np.eye(4)
    pose[0, 3] = 1e-6 * speed * spacing_us * index
    fields = {
        "images": [None],
        "intrinsics": np.array([[[300.0, 0, 80], [0, 310, 40], [0, 0, 1]]]),
        "ego_from_cam": np.eye(4)[None],
        "timestamp_us": (NOW_US + spacing_us * index) // divisor,
        "world_from_ego": pose,
        "scene_token": scene,
    }
    return Frame(**(fields | changes))


def in_unit(frame, divisor):
    return replace(
        frame,
        timestamp_us=frame.timestamp_us // divisor,
        camera_timestamp_us=tuple(time // divisor for time in frame.camera_timestamp_us),
    )


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("speed", [0.0, 9.0])
def test_a_clock_refuses_coarse_units_within_three_frames(unit, speed):
    clock = StreamClock()
    with pytest.raises(ValueError, match=f"must be in microseconds; got {unit} .* s between"):
        for index in range(3):
            clock = clock.advanced(small_frame(index, divisor=UNITS[unit], speed=speed))


def test_a_clock_refuses_nanoseconds_of_a_clock_that_starts_at_zero():
    clock = StreamClock()
    with pytest.raises(ValueError, match="got nanoseconds"):
        for index in range(1, 6):
            frame = small_frame(index, timestamp_us=500_000_000 * index)
            clock = clock.advanced(frame)


def test_a_clock_accepts_gaps_jumps_repeats_and_new_scenes():
    clock = StreamClock()
    parked = [small_frame(index, speed=0.0) for index in range(4)]
    far = np.eye(4)
    far[0, 3] = 5000.0
    repeated = small_frame(4, world_from_ego=far)  # the pose jumps
    later = small_frame(100_000, world_from_ego=far)  # 14 hours
    elsewhere = small_frame(0, scene="another", timestamp_us=later.timestamp_us + 1)
    without_time = small_frame(5, timestamp_us=0)
    without_pose = small_frame(6, scene="another", world_from_ego=None)
    back = small_frame(1)  # time goes back
    for frame in (*parked, parked[-1], repeated, repeated, later, elsewhere, without_time):
        clock = clock.advanced(frame)
    assert clock == StreamClock()
    for frame in (without_pose, back, small_frame(2, spacing_us=33_000)):
        clock = clock.advanced(frame)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("wrap", [lambda detector: detector, MirroredDetector, TrackedDetector])
def test_a_stream_refuses_the_unit_and_stays_unchanged(frames, unit, wrap):
    stream = wrap(build(CONFIG)).stream()
    drive = [in_unit(frame, UNITS[unit]) for frame in frames[:3]]
    stream.step(drive[0])
    before = stream.state
    with pytest.raises(ValueError, match=f"timestamp_us must be in microseconds; got {unit}"):
        for frame in drive[1:]:
            before = stream.state
            stream.step(frame)
    assert torch.equal(stream.state.tracks.identity, before.tracks.identity)
    assert stream.state.reset is before.reset


def test_a_clip_of_milliseconds_is_refused(frames):
    drive = [in_unit(frame, 1000) for frame in frames[:3]]
    with pytest.raises(ValueError, match="got milliseconds up to frame"):
        Clip((drive[0], None, drive[1]), (-2, -1, 0))
    without_time = [replace(frame, timestamp_us=0) for frame in frames[:2]]
    assert Clip(tuple(without_time), (-1, 0)).current is without_time[1]


@pytest.mark.parametrize("wrap", [lambda detector: detector, MirroredDetector, TrackedDetector])
def test_a_stopped_camera_is_lost_named_and_not_used(frames, wrap):
    frame = frames[1]
    stopped = frame.camera_names[4]
    times = list(frame.camera_timestamp_us)
    times[4] -= 5_000_000
    with pytest.warns(StaleCameraWarning, match=f"^{stopped} counts as lost: .* 5 s older"):
        stale = replace(frame, camera_timestamp_us=tuple(times))
    images = [image if n != 4 else None for n, image in enumerate(frame.images)]
    lost = replace(frame, images=images, camera_mask=None)
    detector = wrap(build(CONFIG))
    stream = detector.stream()
    stream.step(frames[0])
    assert stream.state.stale_cameras == ()
    stream.step(stale)
    assert stream.state.stale_cameras == (stopped,)
    found, wanted = detector.predict(stale), detector.predict(lost)
    assert torch.equal(found.scores, wanted.scores) and len(found)
    assert not torch.equal(found.scores, detector.predict(frame).scores)


def test_a_frame_whose_cameras_all_stopped_is_refused(frames):
    with pytest.warns(StaleCameraWarning):
        late = replace(frames[0], timestamp_us=frames[0].timestamp_us + 5_000_000)
    detector = build(CONFIG)
    for call in (detector.predict, detector.stream().step):
        with pytest.raises(ValueError, match=r"all are lost .CAM_FRONT is 5 s older"):
            call(late)
