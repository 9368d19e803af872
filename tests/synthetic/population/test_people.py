"""People cross by the traffic lights: compared with the drawn zebra crossings of many scenes."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.synthetic.population.people import time_to_step_out
from bevstack.synthetic.population.population import Role
from bevstack.synthetic.population.traffic import DT_S, LEAD_IN_S
from bevstack.synthetic.scene import Scene
from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.synthetic.streets.roads import Path


def zebras(scene: Scene) -> list[tuple[Path, float, float, float, float, int]]:
    """Return path, ranges of arc length and offset, and phase of every zebra crossing."""
    layout, areas = scene.layout, []
    for c in layout.crossings:
        low, high, gap = -layout.right.kerb_m, layout.left.kerb_m, c.half_width_m
        s, middle = c.centre_s_m, c.path.length_m / 2
        areas.append((layout.centre, s - gap - 4, s - gap - 1, low, high, 0))
        areas.append((layout.centre, s + gap + 1, s + gap + 4, low, high, 0))
        areas.append((c.path, middle + low - 4, middle + low - 1, -gap, gap, 1))
        areas.append((c.path, middle + high + 1, middle + high + 4, -gap, gap, 1))
    return areas


def on_zebra(zebra, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a mask of the points on a zebra crossing's part of the carriageway."""
    path, s0, s1, low, high, _ = zebra
    px, py, heading = (float(v) for v in path.at((s0 + s1) / 2))
    along = np.cos(heading) * (x - px) + np.sin(heading) * (y - py)
    across = np.cos(heading) * (y - py) - np.sin(heading) * (x - px)
    return (np.abs(along) < (s1 - s0) / 2) & (across > low) & (across < high)


def test_zebra_crossings_are_empty_while_the_vehicles_there_have_green(scenes: list[Scene]):
    crossed, waited = [0, 0], 0
    for scene in scenes:
        times = np.arange(scene.poses.shape[1]) * DT_S - LEAD_IN_S
        signals, areas = scene.layout.signals, zebras(scene)
        green = [np.array([not signals.is_red(p, t) for t in times]) for p in (0, 1)]
        for item in scene.objects:
            if item.role is not Role.PERSON:
                continue
            track, crosses = item.track, False
            for zebra in areas:
                inside = on_zebra(zebra, *track.pose[:, :2].T) & track.alive
                assert not (inside & green[zebra[-1]]).any(), (scene.name, zebra[-1])
                crosses |= bool(inside.any())
                crossed[zebra[-1]] += bool(inside.any())
            stands = (track.speed_mps == 0.0) & track.alive
            waited += crosses and bool(stands.any())
    assert crossed[0] >= 30 and crossed[1] >= 15 and waited >= 20, (crossed, waited)


@pytest.mark.parametrize("phase", [0, 1])
def test_a_person_crosses_at_once_or_waits_for_the_next_red_of_the_vehicles(phase: int):
    signals = Signals(offset_s=7.3, main_s=11.0, cross_s=8.0)
    instant = 0
    for arrival in np.arange(-20.0, 60.0, 0.37):
        start = time_to_step_out(signals, phase, float(arrival), 9.0, 0.8)
        assert start >= arrival
        inside = np.arange(start, start + 9.0, 0.05)
        assert all(signals.is_red(phase, t) for t in inside)
        assert start - arrival < signals.cycle_s + 2.0
        instant += start == arrival
    assert instant > 20
    assert time_to_step_out(signals, phase, 0.0, 100.0, 0.0) > 1e3  # red is never long enough


def test_red_window_is_the_time_in_which_the_phase_is_red():
    signals = Signals(offset_s=3.1, main_s=9.5, cross_s=6.5)
    for phase in (0, 1):
        for t in np.arange(-30.0, 60.0, 0.23):
            start, end = signals.red_window(phase, float(t))
            assert end > t and (start <= t) == signals.is_red(phase, t)
            assert signals.is_red(phase, start + 1e-6) and not signals.is_red(phase, start - 1e-6)
            assert signals.is_red(phase, end - 1e-6) and not signals.is_red(phase, end + 1e-6)
