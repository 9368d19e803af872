"""Car following and paths: no collisions, stops at red, slow in bends."""

import numpy as np
import pytest

from bevstack.synthetic.population.traffic import (
    DT_S,
    LEAD_IN_S,
    Driver,
    drive_lane,
    sample_tracks,
    speed_profile,
    time_steps,
    walk_on_path,
)
from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.synthetic.streets.roads import Lane, StopLine, make_layout, path_through


def straight(length_m: float):
    return path_through(
        np.stack([np.arange(0, length_m + 0.5, 0.5), np.zeros(int(2 * length_m) + 1)], 1)
    )


def test_positions_on_a_path_and_beside_it():
    bend = path_through(np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]]))
    assert bend.length_m == 7.0
    x, y, heading = bend.at(np.array([-2.0, 1.0, 9.0]), np.array([1.0, 0.0, -0.5]))
    # before the start and beyond the end the path is straight
    np.testing.assert_allclose([x[0], y[0]], [-2.0, 1.0], atol=1e-12)
    np.testing.assert_allclose([x[1], y[1]], [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose([x[2], y[2], heading[2]], [4.5, 5.0, np.pi / 2], atol=1e-12)


def test_followers_keep_their_distance_behind_a_slow_leader():
    lane = Lane(straight(600), 13.0, (), True, True)
    drivers = [Driver(80.0, 5.0, 0.3), Driver(60.0, 12.0, 1.0), Driver(30.0, 4.0, 1.1)]
    s, v, braking = drive_lane(lane, drivers, Signals(0, 10, 10), time_steps(30.0))
    lengths = np.array([5.0, 12.0, 4.0])
    gaps = s[:-1] - s[1:] - (lengths[:-1, None] + lengths[1:, None]) / 2
    assert gaps.min() > 1.0
    np.testing.assert_allclose(v[:, -1], 0.3 * 13.0, rtol=0.1)
    assert braking[2].max() == 1.0
    np.testing.assert_allclose(np.diff(s, axis=1), (v[:, 1:] + v[:, :-1]) / 2 * DT_S, atol=1e-9)


def test_vehicles_stop_at_red_and_drive_on_at_green():
    signals = Signals(offset_s=20.0, main_s=20.0, cross_s=10.0, clear_s=3.0)
    assert signals.is_red(0, 0.0) and not signals.is_red(0, 16.5)
    lane = Lane(straight(400), 12.0, (StopLine(150.0, 0),), True, True)
    drivers = [Driver(110.0, 4.5, 1.0), Driver(90.0, 4.5, 1.0)]
    s, v, _ = drive_lane(lane, drivers, signals, time_steps(30.0))
    times = np.arange(s.shape[1]) * DT_S - LEAD_IN_S
    red = np.array([signals.is_red(0, t) for t in times])
    fronts = s + 4.5 / 2
    crossing = (fronts[:, :-1] < 150.0) & (fronts[:, 1:] >= 150.0)
    assert crossing.any(axis=1).all() and not (crossing & red[:-1]).any()
    assert v[0][red].min() < 0.2


def test_cross_streets_are_never_green_together():
    signals = Signals(offset_s=3.0, main_s=11.0, cross_s=7.0)
    for t in np.arange(0, 60, 0.1):
        assert signals.is_red(0, t) or signals.is_red(1, t)
    assert not all(signals.is_red(1, t) for t in np.arange(0, 30, 0.5))


def test_bends_are_entered_slowly_and_in_time():
    angle = np.linspace(0, np.pi / 2, 64)
    turn = np.stack([100 + 25 * np.sin(angle), 25 - 25 * np.cos(angle)], axis=1)
    lead = np.stack([np.arange(0, 100, 0.5), np.zeros(200)], axis=1)
    path = path_through(np.concatenate([lead, turn]))
    speed = speed_profile(path, 14.0)
    assert speed[0] == pytest.approx(14.0)
    inside = (path.s_m > 102) & (path.s_m < 135)
    assert speed[inside].max() ** 2 / 25.0 < 2.4  # lateral acceleration, m/s2
    slowing = -np.diff(speed**2) / 2 / np.diff(path.s_m)
    assert 0.5 < slowing.max() < 1.4  # braking, m/s2


def test_a_walk_against_the_path_has_the_heading_of_its_motion():
    track = walk_on_path(straight(50), 30.0, -1.5, 2.0, time_steps(4.0))
    pose = sample_tracks(track.pose[None], 2.05)[0]
    np.testing.assert_allclose(pose[:2], [30.0 - 1.5 * 2.05, 2.0], atol=1e-9)
    assert abs(np.cos(pose[2]) + 1) < 1e-9
    np.testing.assert_allclose(track.speed_mps, 1.5)


@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_traffic_keeps_to_its_side(hand):
    for seed in range(8):
        layout = make_layout(np.random.default_rng(seed), hand, 100.0)
        for lane, offset in zip(layout.lanes, layout.lane_offsets_m, strict=False):
            assert np.sign(offset) == (-hand if lane.is_forward else hand)
            x, y, heading = lane.path.at(lane.path.length_m / 2)
            near = int(np.argmin(np.hypot(*(layout.centre.points_m - [x, y]).T)))
            turn = heading - layout.centre.heading_rad[near] - (0 if lane.is_forward else np.pi)
            assert abs(np.angle(np.exp(1j * turn))) < 0.1
