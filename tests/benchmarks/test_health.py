"""Intervals of the measured rates, and one short measurement from rendered drives to the JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from scipy.stats import binom, poisson

from benchmarks import run
from benchmarks.health import Alarms, Detections, binomial_interval, poisson_interval
from benchmarks.health_faults import FAULTS
from bevstack.types.health import CameraState


@pytest.mark.parametrize(("hits", "number"), [(0, 20), (20, 20), (57, 60)])
def test_the_interval_of_a_share_leaves_the_same_tail_on_both_sides(hits, number):
    """Compare with the definition: beyond each end the count is as extreme in 2.5 % of cases."""
    low, high = binomial_interval(hits, number)
    if hits:
        assert binom.sf(hits - 1, number, low) == pytest.approx(0.025)
    if hits < number:
        assert binom.cdf(hits, number, high) == pytest.approx(0.025)
    assert 0 <= low <= hits / number <= high <= 1


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_interval_of_a_count_leaves_the_same_tail_on_both_sides(count):
    low, high = poisson_interval(count)
    assert poisson.cdf(count, high) == pytest.approx(0.025)
    assert poisson.sf(count - 1, low) == pytest.approx(0.025) if count else low == 0


def test_every_state_that_is_not_ok_has_a_fault():
    named = set().union(*(fault.states for fault in FAULTS.values()))
    assert named == set(CameraState) - {CameraState.OK}


def test_the_counts_of_several_processes_add_up():
    alarms, detections = Alarms(), Detections()
    for number in (1, 2):
        own, found = Alarms(), Detections()
        own.camera_s, own.where = 1800.0 * number, [f"drive {number}"]
        own.counts[CameraState.TURNED] = number
        found.trials["black"] = found.alarmed["black"] = 2
        found.named["black"], found.delays_s["black"] = number, [0.5 * number] * number
        alarms.merge(own)
        detections.merge(found)
    report = alarms.report()
    assert report["camera_hours"] == 1.5 and report["where"] == ["drive 1", "drive 2"]
    assert report["states"]["turned"]["per_camera_hour"] == 2.0
    black = detections.report()["black"]
    assert (black["trials"], black["detected"], black["any_alarm"]) == (4, 3, 4)
    assert black["median_delay_s"] == 1.0


@pytest.mark.slow  # 60 s of processor time: renders a drive of 7 s and runs a detector
def test_a_short_measurement_writes_all_figures(tmp_path, monkeypatch):
    path = tmp_path / "health.json"
    arguments = ["--scenes", "1", "--samples", "15", "--processes", "2"]
    arguments += ["--pictures", str(tmp_path / "pictures")]
    monkeypatch.setattr(sys, "argv", ["run", "health", *arguments, "--json", str(path)])
    run.main()
    result = json.loads(path.read_text())
    assert result["false_alarms"]["camera_hours"] == pytest.approx(6 * 7 / 3600, abs=1e-3)
    assert set(result["detection"]) <= set(FAULTS)
    black = result["detection"]["black"]
    assert black["detected"] == black["trials"] == 1 and black["interval"][1] == 1.0
    assert 0 < result["cost"]["share"] < 1 and np.isfinite(result["cost"]["step_ms"])
