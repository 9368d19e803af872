"""Windows of stamps: complete ones, deadlines, late and repeated images, silent cameras."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bevstack.runtime.node.windows import Arrival, Synchroniser, Window

TOLERANCE, TIMEOUT = 50, 60


def made(cameras: Sequence[str] = "abc") -> Synchroniser:
    return Synchroniser(cameras, tolerance_us=TOLERANCE, timeout_us=TIMEOUT, silent_us=300)


def stamps(windows: list[Window]) -> list[dict[str, int]]:
    return [window.stamps_us for window in windows]


def feed(rig: Synchroniser, *arrivals: tuple[str, int]) -> list[Arrival]:
    """Add images that arrive at their stamps."""
    return [rig.add(camera, stamp, stamp) for camera, stamp in arrivals]


def test_a_window_closes_when_all_cameras_are_there_in_any_order() -> None:
    rig = made()
    assert feed(rig, ("c", 110), ("a", 100)) == [Arrival.TAKEN] * 2
    assert rig.close_due(120) == [] and rig.next_deadline_us() == 110 + TIMEOUT
    rig.add("b", 105, 121)
    (window,) = rig.close_due(121)
    assert window.stamps_us == {"c": 110, "a": 100, "b": 105}
    assert (window.first_us, window.last_us) == (100, 110)
    assert window.reference_us("b") == 105 and window.reference_us("gone") == 105
    assert rig.next_deadline_us() is None


def test_the_deadline_closes_a_window_and_masks_the_missing_camera() -> None:
    rig = made()
    feed(rig, ("a", 100), ("b", 101))
    assert rig.close_due(159) == []
    assert stamps(rig.close_due(160)) == [{"a": 100, "b": 101}]
    assert rig.add("c", 102, 170) is Arrival.LATE
    assert rig.close_due(500) == []


def test_repeated_and_reordered_images_are_distinguished() -> None:
    rig = made()
    assert feed(rig, ("a", 100), ("a", 100), ("a", 99), ("a", 101)) == [
        Arrival.TAKEN,
        Arrival.DUPLICATE,
        Arrival.OUT_OF_ORDER,
        Arrival.TAKEN,
    ]


def test_windows_close_in_the_order_of_their_stamps() -> None:
    rig = made()
    feed(rig, ("a", 100), ("b", 101), ("c", 102))
    rig.close_due(102)
    feed(rig, ("a", 200), ("a", 300), ("b", 301), ("c", 302))
    # The later window is complete: the earlier one closes before it, as it is.
    assert stamps(rig.close_due(302)) == [{"a": 200}, {"a": 300, "b": 301, "c": 302}]


def test_a_camera_faster_than_the_tolerance_opens_its_own_windows() -> None:
    rig = made("a")
    for time in range(0, 200, 20):
        assert feed(rig, ("a", time)) == [Arrival.TAKEN]
        assert stamps(rig.close_due(time)) == [{"a": time}]


def test_a_silent_camera_is_not_waited_for_and_recovers_within_two_windows() -> None:
    rig = made()
    waited, complete = [], []
    for time in range(0, 2000, 100):
        alive = "abc" if time in (0, 100) or time >= 1500 else "ab"
        for offset, camera in enumerate(alive):
            rig.add(camera, time + offset, time + offset)
            for window in rig.close_due(time + offset):
                complete.append((time, len(window.stamps_us)))
        for window in rig.close_due(time + 99):
            waited.append((time, len(window.stamps_us)))
    # Its last image came at 102; from 402 on, it is not expected.
    assert [time for time, _ in waited] == [200, 300, 400]
    assert [count for time, count in complete if 500 <= time < 1500] == [2] * 10
    assert [count for time, count in complete if time >= 1600] == [3] * 4


def test_a_complete_window_waits_for_its_pose_until_the_deadline() -> None:
    rig = made("ab")
    feed(rig, ("a", 100), ("b", 110))
    assert rig.close_due(111, poses_until_us=105) == []
    assert len(rig.close_due(112, poses_until_us=110)) == 1
    feed(rig, ("a", 200), ("b", 210))
    assert rig.close_due(259, poses_until_us=110) == []
    assert len(rig.close_due(260, poses_until_us=110)) == 1


def test_open_windows_are_few_whatever_arrives() -> None:
    rig = made()
    for time in range(0, 50_000, 1000):
        rig.add("a", time, 0)  # the clock stands still
    assert len(rig.close_due(0)) == 42
    assert len(rig.close_all()) == 8 and rig.close_all() == []
    rig.clear()
    assert rig.newest_us is None and feed(rig, ("a", 5)) == [Arrival.TAKEN]


@pytest.mark.parametrize("late", [(90, Arrival.LATE), (161, Arrival.TAKEN)])
def test_an_image_before_the_last_window_is_late(late: tuple[int, Arrival]) -> None:
    rig = made("ab")
    feed(rig, ("a", 100), ("b", 110))
    rig.close_due(110)
    stamp, expected = late
    other = Synchroniser("ab", tolerance_us=TOLERANCE, timeout_us=TIMEOUT)
    assert other.add("b", stamp, 200) is Arrival.TAKEN
    rig._last_stamp_us.pop("b")  # as if its first image came now
    assert rig.add("b", stamp, 200) is expected


def test_the_lag_of_a_camera_is_that_beyond_the_middle_one() -> None:
    rig = made()
    for camera, stamp, at in (("a", 100, 110), ("b", 105, 112), ("c", 102, 150)):
        assert rig.add(camera, stamp, at) is Arrival.TAKEN
    (window,) = rig.close_due(151)
    assert window.lags_us() == {"a": 0, "b": -3, "c": 38} and Window(0).lags_us() == {}


def test_after_a_silence_of_all_cameras_the_first_window_waits_for_all() -> None:
    rig = made()
    feed(rig, ("a", 100), ("b", 101), ("c", 102))
    assert len(rig.close_due(102)) == 1
    assert feed(rig, ("a", 1000)) == [Arrival.TAKEN] and rig.close_due(1000) == []
    feed(rig, ("c", 1001), ("b", 1002))
    assert stamps(rig.close_due(1002)) == [{"a": 1000, "c": 1001, "b": 1002}]


def test_windows_that_wait_while_a_step_computes_are_bounded() -> None:
    rig = made()
    for time in range(0, 100_000, 1000):
        assert rig.add("a", time, time) is Arrival.TAKEN
    assert rig.dropped == 100 - 64
    assert stamps(rig.close_all())[0] == {"a": 36_000}


def test_the_first_window_of_a_drive_waits_for_calibrations_until_the_deadline() -> None:
    for now, waiting, wanted in ((111, "b", 0), (112, "", 1), (159, "b", 0), (160, "b", 1)):
        rig = made("ab")
        feed(rig, ("a", 100), ("b", 110))
        assert len(rig.close_due(now, uncalibrated=waiting)) == wanted
    feed(rig, ("a", 200), ("b", 210))
    assert len(rig.close_due(211, uncalibrated="b")) == 1  # a camera without one costs no time


def test_the_first_window_of_a_drive_waits_for_the_first_pose_until_the_deadline() -> None:
    for now, without, wanted in ((111, True, 0), (112, False, 1), (159, True, 0), (160, True, 1)):
        rig = made("ab")
        feed(rig, ("a", 100), ("b", 110))
        assert len(rig.close_due(now, without_poses=without)) == wanted
    feed(rig, ("a", 200), ("b", 210))
    assert len(rig.close_due(211, without_poses=True)) == 1  # a vehicle without poses loses no time
