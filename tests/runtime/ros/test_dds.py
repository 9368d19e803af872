"""Topics of ROS 2 over DDS, with peers in other processes on the loopback interface."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install 'bevstack[ros]'")
pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.bag import Publication
from bevstack.export.messages.status import Status, make_diagnostics
from bevstack.export.messages.store import MessageStore, open_store
from bevstack.runtime.node.lifecycle import State
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.dds import DdsTransport
from bevstack.runtime.ros.managed_node import ManagedNode
from bevstack.runtime.ros.quality import RESULTS, SENSOR_DATA
from bevstack.runtime.ros.wiring import make_node
from bevstack.tables.reader import Tables
from tests.export.drives import SCENE, VERSION_NAME, write_swept_root
from tests.runtime.node.inputs import FakeDetector
from tests.runtime.ros.domains import own_domain

PEER = Path(__file__).with_name("dds_peer.py")
NUMBER = 20
IMAGE = "sensor_msgs/msg/CompressedImage"


@pytest.fixture(scope="module")
def store() -> MessageStore:
    return open_store()


def test_a_peer_with_its_own_types_exchanges_all_messages(store: MessageStore) -> None:
    transport = DdsTransport(store, domain=own_domain(0))
    received: list[tuple[int, bytes]] = []

    def receive(data: bytes) -> None:
        message = store.from_bytes(data, IMAGE)
        seconds = message.header.stamp.sec - 1_600_000_000
        received.append((seconds, bytes(message.data)))
        status = Status(
            name="n: t", level=2, message="m", hardware_id="h", values=(("k", str(seconds)),)
        )
        array = make_diagnostics(store, 1_000_000 * seconds, [status])
        transport.publish(Publication("/diagnostics", 0, array))

    transport.subscribe("/CAM_FRONT/image_raw/compressed", IMAGE, SENSOR_DATA, receive)
    transport.advertise("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    transport.start()
    command = [sys.executable, str(PEER), str(NUMBER), str(own_domain(0))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    transport.close()
    assert done.returncode == 0, done.stderr
    # N of N, both ways
    assert received == [(n, bytes([n, 2, 3, 4, 5]) * 7) for n in range(NUMBER)]
    assert done.stdout.split("\n")[:-1] == [f"{n} 2 {n}" for n in range(NUMBER)]


def test_a_bag_that_another_process_plays_goes_through_the_node(
    store: MessageStore, tmp_path: Path
) -> None:
    root = write_swept_root(tmp_path / "root")
    write_drive_bag(tmp_path / "d.mcap", Tables(root, VERSION_NAME), SCENE, store)
    detector = FakeDetector()
    transport = DdsTransport(store, domain=own_domain(1))
    # The processors of a test are shared: a message may come a second late.
    settings = {"use_sim_time": True, "sync_timeout_ms": 400, "max_age_ms": 10_000}
    parts = make_node(detector, Parameters(settings), store, model="fake", times=True)
    node = ManagedNode(parts, transport)
    events: list[str] = []
    transport.subscribe(
        "/bevstack/transition_event",
        "lifecycle_msgs/msg/TransitionEvent",
        RESULTS,
        lambda data: events.append(
            store.from_bytes(data, "lifecycle_msgs/TransitionEvent").goal_state.label
        ),
    )
    node.start()
    assert node.lifecycle.state is State.ACTIVE and len(detector.singles) == 1  # the first pass
    ended = threading.Event()
    runner = threading.Thread(target=node.run_until, args=(ended,))
    runner.start()
    options = ("--bag", str(tmp_path / "d.mcap"), "--rate", "0.2", "--domain", str(own_domain(1)))
    command = [sys.executable, "-m", "bevstack", "play-bag", *options, "--wait", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("393 messages of ")
    ended.set()
    runner.join(30)
    assert not runner.is_alive()
    assert node.lifecycle.state is State.FINALIZED and "active" in events
    core = parts.core
    received = sum(camera.received for camera in core.cameras.values())
    # Images are sent with best effort: a busy machine may lose some
    assert 80 <= received <= 96 and core.counts.steps + core.counts.skipped >= 10
    assert core.counts.steps >= 8 and not core.counts.undecodable
    # The calibration of a camera may arrive after the first frame
    assert len(detector.frames[-1].camera_names) == 6


def test_wrong_settings_are_named(store: MessageStore) -> None:
    with pytest.raises(ValueError, match="interface must be one of this machine that is up; got"):
        DdsTransport(store, domain=own_domain(2), interface="no_such0")
    with pytest.raises(ValueError, match="distro must be one of ROS 2 for DDS; got 'noetic'"):
        DdsTransport(open_store("noetic"))
