"""The unit of times: found where a factor explains impossible drives, silent on possible ones."""

import numpy as np
import pytest

from bevstack.times import differing_unit, implied_motion, wrong_unit

NOW_S = 1_600_000_000.0
PER_SECOND = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def drive(spacing_s, speed_mps, frames=40, start_s=NOW_S):
    """Return seconds and positions of a drive along a slow curve."""
    seconds = start_s + spacing_s * np.arange(frames)
    angle = 0.01 * np.arange(frames)
    step = speed_mps * spacing_s * np.stack((np.cos(angle), np.sin(angle), 0 * angle), -1)
    return seconds, np.cumsum(step, axis=0)


def stored(seconds, unit):
    return np.floor(seconds * PER_SECOND[unit]).astype(np.int64)


@pytest.mark.parametrize("unit", ["seconds", "milliseconds", "nanoseconds"])
@pytest.mark.parametrize("start_s", [0.0, NOW_S])
@pytest.mark.parametrize(("spacing_s", "speed_mps"), [(0.5, 8.0), (0.1, 30.0), (2.0, 3.0)])
def test_a_drive_in_another_unit_is_recognised(unit, start_s, spacing_s, speed_mps):
    seconds, positions = drive(spacing_s, speed_mps, start_s=start_s)
    assert wrong_unit(stored(seconds, unit), positions) == unit
    assert wrong_unit(stored(seconds, "microseconds"), positions) is None


@pytest.mark.parametrize(
    ("unit", "spacing_s"), [("seconds", 0.5), ("milliseconds", 0.05), ("milliseconds", 0.5)]
)
def test_a_parked_vehicle_betrays_coarse_units_by_the_spacing_alone(unit, spacing_s):
    seconds, positions = drive(spacing_s, 0.0)
    assert wrong_unit(stored(seconds, unit), positions) == unit
    unknown = np.full_like(positions, np.nan)
    assert wrong_unit(stored(seconds, unit), unknown) == unit


@pytest.mark.parametrize("spacing_s", [0.008, 0.05, 0.5, 10.0, 600.0])
def test_a_parked_vehicle_with_right_times_is_silent(spacing_s):
    seconds, positions = drive(spacing_s, 0.0)
    positions += np.random.default_rng(0).normal(0, 1.0, positions.shape)  # of its localisation
    for start in (0.0, NOW_S):
        times = stored(seconds - NOW_S + start, "microseconds")
        if spacing_s > 0.02:  # faster, this noise alone is no motion of a vehicle
            assert wrong_unit(times, positions) is None
        assert wrong_unit(times, np.zeros_like(positions)) is None


def test_gaps_and_jumps_of_a_right_drive_are_silent():
    seconds, positions = drive(0.5, 9.0)
    with_gap = seconds + np.where(np.arange(40) > 20, 86_400.0, 0.0)
    assert wrong_unit(stored(with_gap, "microseconds"), positions) is None
    with_jump = positions + np.where(np.arange(40) > 20, 5000.0, 0.0)[:, None]
    for spacing in (0.05, 0.5):
        times = stored(NOW_S + spacing * np.arange(40), "microseconds")
        assert wrong_unit(times, positions * spacing + with_jump - positions) is None
    assert wrong_unit(stored(with_gap, "milliseconds"), positions) == "milliseconds"


def test_without_times_there_is_no_unit():
    for count in (0, 1, 5):
        assert wrong_unit(np.zeros(count, np.int64), np.zeros((count, 3))) is None
    assert wrong_unit(np.array([10**18]), np.zeros((1, 3))) == "nanoseconds"


def test_two_times_of_one_moment_show_their_factor():
    now = 1_600_000_000_000_000
    assert differing_unit(now, now - 5_000_000) is None
    assert differing_unit(now // 1000 + 20, now) == "milliseconds"
    assert differing_unit(now, now // 10**6) == "seconds"
    assert differing_unit(now // 2, now) is None
    assert differing_unit(700_000, 700_000_000) is None  # a clock that counts from its start


def test_the_implied_motion_is_described():
    seconds, positions = drive(0.5, 11.257)
    text = implied_motion(stored(seconds, "milliseconds"), positions)
    assert text == "0.0005 s between frames and 1.13e+04 m/s"
    assert implied_motion(stored(seconds, "microseconds"), positions * np.nan) == (
        "0.5 s between frames"
    )
