"""A bag at the pace of its recording: the newest window wins, and times are published."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.sensors import make_clock
from bevstack.export.messages.store import MessageStore, open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.live_bag import LiveBag
from bevstack.runtime.ros.publishing import LATENCIES
from bevstack.runtime.ros.replay import NodeParts
from bevstack.runtime.ros.wiring import make_node
from bevstack.types import Detections, Frame
from tests.export.bags import stamp_us
from tests.runtime.node.inputs import PERIOD_US, START_US, FakeDetector, FakeStream
from tests.runtime.ros.bags import on_topic
from tests.runtime.ros.six_cameras import drive, write_drive

CYCLES = 8
# The processors of a test are shared: messages and steps may come seconds late.
PATIENT = {"sync_timeout_ms": 2_000, "max_age_ms": 60_000}


class SlowStream(FakeStream):
    def step(self, frame: Frame) -> Detections:
        time.sleep(0.5)
        return super().step(frame)


class SlowDetector(FakeDetector):
    def stream(self) -> FakeStream:
        self.streams.append(SlowStream())
        return self.streams[-1]


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store()


@pytest.fixture(scope="module")
def bag(store: MessageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drive(tmp_path_factory.mktemp("live") / "drive.db3", store, CYCLES)


def play(
    path: Path,
    store: MessageStore,
    detector: FakeDetector,
    *,
    rate: float = 1.0,
    ended: threading.Event | None = None,
    **settings: object,
) -> tuple[NodeParts, list[Publication]]:
    parameters = Parameters({**PATIENT, **settings})
    parts = make_node(detector, parameters, store, model="fake", times=True)
    with BagReader(path, store) as reader:
        return parts, list(LiveBag(parts, reader, rate=rate).publications(ended))


def test_a_bag_takes_its_own_time_and_the_newest_window_wins(
    bag: Path, store: MessageStore
) -> None:
    detector = SlowDetector()
    started = time.monotonic()
    parts, published = play(bag, store, detector)
    assert time.monotonic() - started >= 0.7
    counts = parts.core.counts
    assert len(detector.singles) == 1  # the first pass, before the time of the bag starts
    assert counts.skipped > 0 and counts.steps + counts.skipped == counts.windows <= CYCLES
    arrays = list(on_topic(published, "detections"))
    assert len(arrays) == counts.steps >= 2
    # The last window is among the results, however long the steps took.
    assert stamp_us(arrays[-1].header.stamp) == START_US + (CYCLES - 1) * PERIOD_US
    (last,) = [s for s in list(on_topic(published, "/diagnostics"))[-1].status if "infer" in s.name]
    assert {v.key: v.value for v in last.values}["skipped"] == str(counts.skipped)


def test_times_of_all_stages_are_published_with_the_age_of_the_input(
    bag: Path, store: MessageStore
) -> None:
    _, published = play(bag, store, SlowDetector(), rate=0.5)
    counts = Counter(p.topic.rpartition("/")[2] for p in published if "/latency/" in p.topic)
    steps = len(list(on_topic(published, "detections")))
    assert counts == {f"{n}_ms": steps - (n == "cycle") for n in LATENCIES} and steps >= 2
    rows = {name: [m.data for m in on_topic(published, f"latency/{name}_ms")] for name in LATENCIES}
    for row in range(steps):
        parts_ms = sum(rows[name][row] for name in ("images", "model", "tracking"))
        assert rows["total"][row] == pytest.approx(parts_ms) and rows["model"][row] >= 500
        # At half the pace, the time of the bag is half of the steps' time.
        assert rows["input_age"][row] >= 0.5 * rows["total"][row] + rows["messages"][row]
    assert min(rows["cycle"]) >= 500


def test_playing_ends_early_and_simulated_time_comes_from_the_bag(
    store: MessageStore, tmp_path: Path
) -> None:
    messages = drive(store, CYCLES)
    shifted = [p._replace(timestamp_us=p.timestamp_us + 10**12) for p in messages]  # recorded later
    clocks = [
        Publication("/clock", at + 10**12, make_clock(store, at))
        for at in range(START_US, START_US + CYCLES * PERIOD_US, 10_000)
    ]
    path = tmp_path / "clock.mcap"
    write_bag(path, sorted([*clocks, *shifted], key=lambda p: p.timestamp_us), store)
    parts, published = play(path, store, FakeDetector(), use_sim_time=True, sync_timeout_ms=60)
    assert parts.core.counts.steps >= 1
    assert all(p.timestamp_us < START_US + 10**9 for p in published)
    ended = threading.Event()
    ended.set()
    parts, published = play(path, store, FakeDetector(), ended=ended, use_sim_time=True)
    assert parts.core.counts.windows == 0 and {p.topic for p in published} == {"/diagnostics"}


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_rate_is_named(bag: Path, store: MessageStore, rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be positive and finite; got"):
        play(bag, store, FakeDetector(), rate=rate)
