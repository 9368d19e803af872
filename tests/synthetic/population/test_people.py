"""People cross by the light: against the zebras as drawn, for many scenes."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.population.people import time_to_step_out
from bevstack.synthetic.population.population import Role
from bevstack.synthetic.population.traffic import DT_S, LEAD_IN_S
from bevstack.synthetic.scene import Scene, build_scene
from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.synthetic.streets.roads import Path


def zebras(scene: Scene) -> list[tuple[Path, float, float, float, float, int]]:
    """Path, range of arc lengths and of offsets, and the vehicles' phase, of every zebra."""
    layout, found = scene.layout, []
    for c in layout.crossings:
        low, high, gap = -layout.right.kerb_m, layout.left.kerb_m, c.half_width_m
        s, middle = c.centre_s_m, c.path.length_m / 2
        found.append((layout.centre, s - gap - 4, s - gap - 1, low, high, 0))
        found.append((layout.centre, s + gap + 1, s + gap + 4, low, high, 0))
        found.append((c.path, middle + low - 4, middle + low - 1, -gap, gap, 1))
        found.append((c.path, middle + high + 1, middle + high + 4, -gap, gap, 1))
    return found


def on_zebra(zebra, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie on a zebra's stretch of the carriageway."""
    path, s0, s1, low, high, _ = zebra
    px, py, heading = (float(v) for v in path.at((s0 + s1) / 2))
    along = np.cos(heading) * (x - px) + np.sin(heading) * (y - py)
    aside = np.cos(heading) * (y - py) - np.sin(heading) * (x - px)
    return (np.abs(along) < (s1 - s0) / 2) & (aside > low) & (aside < high)


def test_nobody_is_on_a_zebra_while_the_vehicles_there_have_green():
    spec = WorldSpec(seed=8, train_scenes=40, samples_per_scene=31)
    crossed, waited = [0, 0], 0
    for name in spec.families["train"]:
        scene = build_scene(spec, name)
        times = np.arange(scene.poses.shape[1]) * DT_S - LEAD_IN_S
        signals, areas = scene.layout.signals, zebras(scene)
        green = [np.array([not signals.is_red(p, t) for t in times]) for p in (0, 1)]
        for item in scene.objects:
            if item.role is not Role.PERSON:
                continue
            track, met = item.track, False
            for zebra in areas:
                there = on_zebra(zebra, *track.pose[:, :2].T) & track.alive
                assert not (there & green[zebra[-1]]).any(), (name, zebra[-1])
                met |= bool(there.any())
                crossed[zebra[-1]] += bool(there.any())
            stands = (track.speed_mps == 0.0) & track.alive
            waited += met and bool(stands.any())
    assert crossed[0] >= 30 and crossed[1] >= 15 and waited >= 20, (crossed, waited)


@pytest.mark.parametrize("phase", [0, 1])
def test_who_comes_in_time_walks_on_and_who_does_not_waits_for_red(phase: int):
    signals = Signals(offset_s=7.3, main_s=11.0, cross_s=8.0)
    instant = 0
    for arrival in np.arange(-20.0, 60.0, 0.37):
        go = time_to_step_out(signals, phase, float(arrival), 9.0, 0.8)
        assert go >= arrival
        inside = np.arange(go, go + 9.0, 0.05)
        assert all(signals.is_red(phase, t) for t in inside)
        assert go - arrival < signals.cycle_s + 2.0
        instant += go == arrival
    assert instant > 20
    assert time_to_step_out(signals, phase, 0.0, 100.0, 0.0) > 1e3  # never long enough


def test_a_red_window_is_where_the_phase_is_red():
    signals = Signals(offset_s=3.1, main_s=9.5, cross_s=6.5)
    for phase in (0, 1):
        for t in np.arange(-30.0, 60.0, 0.23):
            start, end = signals.red_window(phase, float(t))
            assert end > t and (start <= t) == signals.is_red(phase, t)
            assert signals.is_red(phase, start + 1e-6) and not signals.is_red(phase, start - 1e-6)
            assert signals.is_red(phase, end - 1e-6) and not signals.is_red(phase, end + 1e-6)
