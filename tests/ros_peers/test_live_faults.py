"""Faults of cameras live over DDS: another process plays the drive in real time.

The 144 runs in the bag's own time are in tests/runtime/ros/test_camera_faults.py; these twelve show
that threads, timers and the network change nothing: eight faults, each of the six cameras and all
durations at least once.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install 'bevstack[ros]'")
pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.store import MessageStore, open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.dds import DdsTransport
from bevstack.runtime.ros.managed_node import ManagedNode
from bevstack.runtime.ros.quality import Quality
from bevstack.runtime.ros.wiring import make_node
from tests.export.bags import stamp_us
from tests.runtime.node.inputs import PERIOD_US, START_US
from tests.runtime.ros.camera_faults import FAULTS, Fault, inject, late
from tests.runtime.ros.domains import own_domain
from tests.runtime.ros.six_cameras import CAMERAS, OFFSETS_US, WatchingDetector, drive

pytestmark = pytest.mark.usefixtures("peers")  # in `make test-ros` alone

RATE = 0.25  # of the recording: the processors of a test are shared
FIRST, AFTER = 20, 20  # cycles before and after a fault
SECOND_US = 1_000_000
LAST_US = START_US + 1_000 * SECOND_US  # later diagnostics are those before the first /clock
# Between the fault's time and its name: a second, and the time of a message between processes.
NAMED_US = SECOND_US + 200_000
LISTENED = Quality(depth=1000, reliable=True)
TYPES = {
    "/bevstack/detections": "vision_msgs/msg/Detection3DArray",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
CASES = [
    ("killed", 0, 1.0),
    ("killed", 4, 3.0),
    ("frozen", 1, 1.0),
    ("frozen", 5, 3.0),
    ("black", 2, 1.0),
    ("black", 3, 0.3),
    ("duplicated", 3, 1.0),
    ("reordered", 4, 1.0),
    ("miscoded", 5, 1.0),
    ("truncated", 0, 1.0),
    ("late", 1, 1.0),
    ("late", 2, 3.0),
]


@dataclass(frozen=True)
class LiveRun:
    """All that the node published, by other threads' time, and what it counted."""

    stamps_us: list[int]  # of results
    masks: dict[int, dict[str, bool]]  # by the time of the frame
    states: dict[str, list[tuple[int, str]]]  # by camera: time of the diagnostics, state
    refused: int


def play_live(
    path: Path, messages: list[Publication], store: MessageStore, *, raw: bool, domain: int
) -> LiveRun:
    """Play messages in another process, through a node on the topics of this one."""
    write_bag(path, messages, store)
    detector = WatchingDetector()
    settings: dict[str, object] = {
        "use_sim_time": True,
        "image_transport": "raw" if raw else "compressed",
        "track": False,
        "diagnostics_rate_hz": 10,
    }
    suffix = "" if raw else "/compressed"
    for camera in CAMERAS:  # faults are those of the cameras, not of a full buffer
        topic = f"/{camera}/image_raw{suffix}"
        settings[f"qos_overrides.{topic}.subscription.reliability"] = "reliable"
        settings[f"qos_overrides.{topic}.subscription.depth"] = 50
    transport = DdsTransport(store, domain=domain)
    parts = make_node(detector, Parameters(settings), store, model="watching", times=True)
    node = ManagedNode(parts, transport)
    found: dict[str, list[Any]] = {topic: [] for topic in TYPES}
    for topic, name in TYPES.items():

        def receive(data: bytes, topic: str = topic, name: str = name) -> None:
            found[topic].append(store.from_bytes(data, name))

        transport.subscribe(topic, name, LISTENED, receive)
    node.start()
    ended = threading.Event()
    runner = threading.Thread(target=node.run_until, args=(ended,))
    runner.start()
    command = [sys.executable, "-m", "bevstack", "play-bag", "--bag", str(path)]
    command += ["--domain", str(domain), "--wait", "60", "--rate", str(RATE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    ended.set()
    runner.join(30)
    assert done.returncode == 0, done.stderr
    assert not runner.is_alive()
    states: dict[str, list[tuple[int, str]]] = {camera: [] for camera in CAMERAS}
    for message in found["/diagnostics"]:
        for status in message.status:
            camera = status.name.removeprefix("bevstack: camera_")
            if camera in states and stamp_us(message.header.stamp) < LAST_US:
                state = next(value.value for value in status.values if value.key == "state")
                states[camera].append((stamp_us(message.header.stamp), state))
    masks = {
        frame.timestamp_us: dict(zip(frame.camera_names, frame.camera_mask.tolist(), strict=True))
        for frame in detector.frames
        if frame.camera_mask is not None
    }
    stamps = [stamp_us(message.header.stamp) for message in found["/bevstack/detections"]]
    return LiveRun(stamps, masks, states, parts.core.counts.refused)


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store()


@pytest.mark.parametrize(("name", "number", "duration_s"), CASES)
def test_a_live_fault_is_named_costs_no_results_and_passes(
    store: MessageStore, tmp_path: Path, name: str, number: int, duration_s: float
) -> None:
    camera, raw = CAMERAS[number], name == "miscoded"
    fault: Fault
    fault, state = FAULTS[name]
    if name == "late":
        fault = late(150_000 * number)
    start_us = START_US + FIRST * PERIOD_US
    end_us = start_us + round(duration_s * SECOND_US)
    cycles = FIRST + round(10 * duration_s) + AFTER
    messages = inject(
        drive(store, cycles, raw=raw), camera, fault, start_us=start_us, end_us=end_us
    )
    domain = own_domain(7)
    run = play_live(tmp_path / "drive.mcap", messages, store, raw=raw, domain=domain)
    assert run.refused == 0
    assert run.stamps_us == sorted(set(run.stamps_us))  # no result twice, none back in time
    assert len(run.stamps_us) >= 0.9 * cycles
    first_us = start_us + OFFSETS_US[camera]
    from_us = first_us - PERIOD_US
    named_us = [at for at, found in run.states[camera] if found == state and at >= from_us]
    assert named_us and named_us[0] <= first_us + NAMED_US
    for other, found in run.states.items():
        if other != camera:
            settled = {name for at_us, name in found if at_us >= start_us + PERIOD_US}
            assert settled <= {"ok", "late"}, other  # late: a message on a busy machine
    after = [mask for at_us, mask in run.masks.items() if at_us >= end_us + SECOND_US]
    assert len(after) > 4 and all(all(mask.values()) for mask in after)
    recovered = [mask for at_us, mask in run.masks.items() if at_us >= end_us]
    assert name == "late" or all(mask[camera] for mask in recovered[2:])
    assert run.states[camera][-1][1] == "ok"
