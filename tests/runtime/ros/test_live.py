"""The node with threads: newest wins, diagnostics go on, it stops in time, faults are named."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.bag import Publication
from bevstack.export.messages.sensors import (
    StampedPose,
    make_camera_info,
    make_clock,
    make_compressed_image,
    make_odometry,
    make_transforms,
)
from bevstack.export.messages.store import MessageStore, open_store
from bevstack.geometry import se3_from_parts
from bevstack.runtime.node.lifecycle import State
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.live import LiveNode
from bevstack.runtime.ros.subscriptions import Subscription, subscriptions
from bevstack.runtime.ros.wiring import make_node
from bevstack.types import Detections, Frame
from tests.runtime.node.inputs import CAMERAS, JPEGS, SIZE, FakeDetector, FakeStream, mounted


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store()


class Rig:
    """A live node of four cameras and a clock that the test moves."""

    def __init__(self, store: MessageStore, detector: FakeDetector, **settings: object) -> None:
        values = {"cameras": CAMERAS, "diagnostics_rate_hz": 10, **settings}
        self.parameters = Parameters(values)
        parts = make_node(detector, self.parameters, store, model="fake", times=True)
        self.store = store
        self.published: list[Publication] = []
        self.now_us = 1_600_000_000_000_000
        self.node = LiveNode(parts, self.published.append, clock=lambda: self.now_us)
        self.by_topic: dict[str, Subscription] = {
            s.topic: s for s in subscriptions(self.parameters)
        }

    def send(self, topic: str, message: object) -> None:
        self.node.deliver(self.by_topic[topic], message)

    def send_places(self) -> None:
        poses = []
        for camera in CAMERAS:
            place = mounted(camera)
            import torch

            matrix = se3_from_parts(
                torch.from_numpy(place.rotation_wxyz), torch.from_numpy(place.translation_m)
            )
            poses.append(StampedPose(self.now_us, matrix.numpy(), "base_link", place.child))
        self.send("/tf_static", make_transforms(self.store, poses))

    def send_cycle(self, dead: tuple[str, ...] = ()) -> None:
        """Send images of all cameras at the present time, and the pose before and after."""
        for time_us in (self.now_us - 10_000, self.now_us + 10_000):
            pose = StampedPose(time_us, np.eye(4), "odom", "base_link")
            self.send("/odom", make_odometry(self.store, pose, np.zeros(3), np.zeros(3)))
        k = np.array([[30.0, 0.0, 20.5], [0.0, 30.0, 11.5], [0.0, 0.0, 1.0]])
        for camera in CAMERAS:
            frame = f"{camera.lower()}_optical_frame"
            info = make_camera_info(self.store, self.now_us, frame, SIZE, (k, None))
            image = make_compressed_image(self.store, self.now_us, frame, JPEGS[0])
            if camera not in dead:
                self.send(f"/{camera}/camera_info", info)
                self.send(f"/{camera}/image_raw/compressed", image)

    def on(self, topic: str) -> list[Publication]:
        return [p for p in list(self.published) if p.topic == topic]


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; shared processors may take seconds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_results_come_and_the_node_stops_in_time_with_last_diagnostics(
    store: MessageStore,
) -> None:
    rig = Rig(store, FakeDetector())
    rig.node.start()
    rig.send_places()
    for number in range(1, 4):
        rig.send_cycle()
        until(lambda number=number: len(rig.on("/bevstack/objects")) == number)
        rig.now_us += 100_000
    assert len(rig.on("/bevstack/latency/total_ms")) == 3
    until(lambda: rig.on("/diagnostics"))
    started = time.monotonic()
    rig.node.stop()
    assert time.monotonic() - started < 2
    last = rig.on("/diagnostics")[-1].message
    values = {v.key: v.value for s in last.status if s.name.endswith("model") for v in s.values}
    assert values["state"] == "finalized" and rig.node.has_ended
    assert threading.active_count() < 20


def test_diagnostics_go_on_without_cameras_and_while_a_step_takes_long(
    store: MessageStore,
) -> None:
    release = threading.Event()

    class SlowStream(FakeStream):
        def step(self, frame: Frame) -> Detections:
            release.wait(60)
            return super().step(frame)

    class SlowDetector(FakeDetector):
        def stream(self) -> FakeStream:
            self.streams.append(SlowStream())
            return self.streams[-1]

    detector = SlowDetector()
    rig = Rig(store, detector)
    rig.node.start()
    until(lambda: len(rig.on("/diagnostics")) >= 2)  # nothing was sent yet
    levels = {s.name: s.level for s in rig.on("/diagnostics")[-1].message.status}
    assert levels["bevstack: camera_CAM_FRONT"] == levels["bevstack: inference"] == 2
    rig.send_places()
    for _ in range(6):  # the first step waits, and windows pile up
        rig.send_cycle()
        time.sleep(0.15)
        rig.now_us += 100_000
    before = len(rig.on("/diagnostics"))
    until(lambda: len(rig.on("/diagnostics")) >= before + 2)
    assert not rig.on("/bevstack/objects")
    release.set()
    until(lambda: len(rig.on("/bevstack/objects")) >= 2)
    core = rig.node.parts.core
    assert core.counts.skipped >= 3 and core.counts.steps == 2  # the newest one was stepped
    assert detector.frames[-1].timestamp_us == rig.now_us - 100_000
    rig.node.stop()


def test_an_inactive_node_publishes_diagnostics_alone(store: MessageStore) -> None:
    rig = Rig(store, FakeDetector())
    rig.node.state = State.INACTIVE
    rig.node.start()
    rig.send_places()
    rig.send_cycle()
    until(lambda: rig.node.parts.core.counts.skipped == 1 and rig.on("/diagnostics"))
    assert {p.topic for p in rig.published} == {"/diagnostics"}
    rig.node.state = State.ACTIVE
    rig.now_us += 100_000
    rig.send_cycle()
    until(lambda: rig.on("/bevstack/objects"))
    rig.node.stop()


def test_simulated_time_comes_from_the_clock_topic(store: MessageStore) -> None:
    rig = Rig(store, FakeDetector(), use_sim_time=True)
    rig.node.start()
    rig.send_places()
    rig.send_cycle()  # before the first clock: nothing happens
    simulated_us, rig.now_us = rig.now_us, 0
    rig.node.deliver_clock(make_clock(store, simulated_us))
    assert rig.node.now_us() == simulated_us
    rig.now_us = simulated_us
    rig.send_cycle()
    until(lambda: rig.on("/bevstack/objects"))
    assert rig.node.parts.core.counts.windows == 1
    rig.node.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_the_program_ends_the_node_and_is_named(store: MessageStore) -> None:
    detector = FakeDetector()
    rig = Rig(store, detector)

    def fail(frame: Frame) -> Detections:
        raise KeyError("a fault")

    detector.streams[-1].step = fail  # type: ignore[method-assign]
    rig.node.start()
    rig.send_places()
    rig.send_cycle()
    until(lambda: rig.node.failure is not None)
    assert rig.node.has_ended and isinstance(rig.node.failure, KeyError)
    rig.node.stop()
    messages = [s.message for s in rig.on("/diagnostics")[-1].message.status]
    assert any("a fault of the program has stopped the node: KeyError" in m for m in messages)
