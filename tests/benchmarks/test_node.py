"""Figures of the node's latencies, and one short measurement from a bag to the JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from benchmarks import run
from benchmarks.node import figures
from bevstack.export.messages.store import open_store
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from tests.runtime.ros.six_cameras import write_drive
from tests.small_world import CONFIG


def test_overhead_and_waiting_follow_from_the_published_times() -> None:
    latencies = {
        "images": [90.0, 2.0, 4.0],
        "model": [900.0, 100.0, 200.0],
        "tracking": [10.0, 3.0, 1.0],
        "total": [1000.0, 105.0, 205.0],
        "messages": [100.0, 5.0, 15.0],
        "cycle": [100.0, 120.0],  # from the second result on
        "input_age": [1200.0, 150.0, 260.0],
    }
    # At half the pace, 145 ms of the bag's time between the stamp and the end are 290 ms of ours.
    slow = figures(latencies, rate=0.5)["latency_ms"]
    assert slow["input_age"]["p50"] == pytest.approx((2 * 145 + 5 + 2 * 245 + 15) / 2)
    assert slow["waiting"]["p50"] == pytest.approx((295 - 110 + 505 - 220) / 2)
    found = figures(latencies)
    assert found["results"] == 2  # the first one is left out
    rows = found["latency_ms"]
    assert rows["overhead"] == pytest.approx({"p50": 15.0, "p99": 19.9})  # of 10 and 20
    assert rows["waiting"] == pytest.approx({"p50": 40.0, "p99": 40.0})
    assert rows["cycle"]["p50"] == 110.0 and rows["model"]["p50"] == 150.0
    assert found["step_by_model_p99"] == pytest.approx((110 + 0.99 * 110) / (100 + 0.99 * 100))


@pytest.mark.parametrize("count", [0, 1])
def test_a_bag_that_is_too_short_is_named(count: int) -> None:
    with pytest.raises(ValueError, match=f"results must be two or more; got {count}: play a"):
        figures({"total": [1.0] * count})


@pytest.mark.slow  # a process that plays a bag of two seconds
def test_a_short_measurement_writes_all_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = write_drive(tmp_path / "drive.mcap", open_store(), 20)
    save_model(tmp_path / "small.safetensors", build(CONFIG).model, CONFIG)
    settings = ("sync_timeout_ms=2000", "max_age_ms=60000")  # the processors of a test are shared
    arguments = [word for setting in settings for word in ("--set", setting)]
    arguments += ["--weights", str(tmp_path / "small.safetensors"), "--bag", str(bag)]
    path = tmp_path / "node.json"
    monkeypatch.setattr(sys, "argv", ["run", "node", *arguments, "--json", str(path)])
    run.main()
    result = json.loads(path.read_text())
    assert result["start_s"] > 0 and " results, " in result["node"] and result["results"] >= 1
    rows = result["latency_ms"]
    assert rows["total"]["p50"] >= rows["model"]["p50"] > 0 and rows["overhead"]["p50"] > 0
    assert set(rows) == {
        *("images", "model", "tracking", "total", "messages", "cycle", "input_age"),
        *("overhead", "waiting"),
    }
