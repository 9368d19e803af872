"""The node on ROS 1: Debian's rosmaster, rospy, rostopic and rosbag, none of them ours."""

from __future__ import annotations

import socket
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import open_store
from tests.ros_peers.conftest import CAMERAS, CYCLES, Drive
from tests.ros_peers.programs import Program, numbers_of

SYSTEM_PYTHON = "/usr/bin/python3"  # that Debian's ROS belongs to
LISTENER = Path(__file__).with_name("rospy_listener.py")
# Stamps in the bag are old, and processors are shared: a message may come a second late.
SETTINGS = ("sync_timeout_ms=400", "max_age_ms=20000")


class Master:
    """A running master of ROS 1 on the loopback interface."""

    def __init__(self, port: int, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.api: Any = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}")

    def num_readers(self, node: str, topic: str) -> int:
        """Return the number of connections that a node sends a topic to."""
        _, _, uri = self.api.lookupNode("/test", node)
        _, _, connections = xmlrpc.client.ServerProxy(uri).getBusInfo("/test")
        return sum(row[2] == "o" and row[4] == topic for row in connections)  # type: ignore


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = {
        "ROS_MASTER_URI": f"http://127.0.0.1:{port}",
        "ROS_IP": "127.0.0.1",
        "ROS_HOME": str(tmp_path / "ros"),
    }
    command = ("rosmaster", "--core", "-p", str(port))
    with Program(command, tmp_path, "rosmaster", environment) as program:
        made = Master(port, environment)

        def answers() -> bool:
            try:
                return bool(made.api.getPid("/test"))
            except OSError:
                return False

        program.until(answers, "answered")
        yield made


def node_command(peers: Path, drive: Drive, *settings: str) -> list[str]:
    command = [str(peers / "venv/bin/python"), "-m", "bevstack", "node", "--rospy"]
    options = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    return [*command, "--weights", str(drive.weights), *options]


def test_debian_s_clients_receive_all_messages_of_the_node(
    peers: Path, drive: Drive, master: Master, tmp_path: Path
) -> None:
    with ExitStack() as running:

        def start(name: str, *command: str) -> Program:
            return running.enter_context(Program(command, tmp_path, name, master.environment))

        master.api.setParam("/test", "/use_sim_time", True)
        node = start("node", *node_command(peers, drive))
        node.await_text("active on the topics of ROS 1 as /bevstack")
        # The recorder would leave out messages until it has a time of /clock.
        master.api.deleteParam("/test", "/use_sim_time")
        listener = start("listener", SYSTEM_PYTHON, str(LISTENER))
        echo = start("echo", "rostopic", "echo", "/bevstack/markers")
        topics = ("/bevstack/detections", "/bevstack/markers", "/diagnostics")
        recorder = start("record", "rosbag", "record", "--output-name=recorded.bag", *topics)
        for topic, number in zip(topics, (2, 3, 2), strict=True):
            node.until(
                lambda topic=topic, number=number: master.num_readers("/bevstack", topic) >= number,
                f"got {number} subscribers of {topic}",
            )
        options = ("--clock", "--rate=0.05", "--quiet", "--wait-for-subscribers")
        start("play", "rosbag", "play", *options, str(drive.ros1)).ended()
        results, skipped = numbers_of(node.interrupted())
        recorder.interrupted()
        echo.interrupted()
    # The clock may stop before the deadline of the last window. Busy processors skip windows.
    assert CYCLES - 1 <= results + skipped <= CYCLES and results >= CYCLES // 4
    recorded = read_recorded(tmp_path / "recorded.bag")
    assert last_received(recorded["/diagnostics"]) == CYCLES * CAMERAS
    # N of N: of the published results at the three clients, and of the diagnostics at two. A step
    # that ends too late after the interrupt is counted, and not published.
    published = len(recorded["/bevstack/detections"])
    assert results - 1 <= published <= results
    assert len(recorded["/bevstack/markers"]) == published
    assert echo.text().count("\n---\n") == published
    expected = [detections_line(m) for m in recorded["/bevstack/detections"]]
    expected += [markers_line(m) for m in recorded["/bevstack/markers"]]
    expected += [
        f"diagnostics {nanoseconds(m.header.stamp)} {len(m.status)}"
        for m in recorded["/diagnostics"]
    ]
    lines = [line for line in listener.lines() if line != "ready"]
    # Diagnostics come before the recorder is ready.
    first = min(i for i, line in enumerate(lines) if line in expected)
    assert sorted(lines[first:]) == sorted(expected)


def read_recorded(path: Path) -> dict[str, list[Any]]:
    """Return the messages of a bag by topic."""
    found: dict[str, list[Any]] = {}
    with BagReader(path, open_store("noetic")) as bag:
        for raw in bag.messages():
            found.setdefault(raw.topic, []).append(bag.decode(raw))
    return found


def last_received(diagnostics: list[Any]) -> int:
    """Return the number of images that the node had received at the end."""
    statuses = diagnostics[-1].status
    return sum(int(v.value) for s in statuses for v in s.values if v.key == "received")


def nanoseconds(stamp: Any) -> str:
    """Return a stamp as genpy prints it."""
    return f"{stamp.sec * 10**9 + stamp.nanosec}"


def detections_line(message: Any) -> str:
    x = float(message.detections[0].bbox.center.position.x)
    return f"detections {nanoseconds(message.header.stamp)} {len(message.detections)} {x!r}"


def markers_line(message: Any) -> str:
    stamps = {nanoseconds(m.header.stamp) for m in message.markers if m.action == 0}
    return f"markers {' '.join(sorted(stamps))} {len(message.markers)}"


PRINT_MD5 = """
import sys, roslib.message
for name in sys.argv[1:]:
    found = roslib.message.get_message_class(name)
    print(name, found._md5sum if found else "none")
"""


def test_all_types_have_the_md5_sums_of_debian_s_packages(tmp_path: Path) -> None:
    store = open_store("noetic")
    names = sorted(
        name
        for name in store.types.types
        if name.split("/")[0] in {"std_msgs", "sensor_msgs", "geometry_msgs", "nav_msgs"}
        or name.split("/")[0] in {"diagnostic_msgs", "visualization_msgs", "tf2_msgs"}
    )
    short = [name.replace("/msg/", "/") for name in names]
    with Program((SYSTEM_PYTHON, "-c", PRINT_MD5, *short), tmp_path, "md5") as program:
        found = dict(line.split() for line in program.ended().splitlines())
    known = {name: digest for name, digest in found.items() if digest != "none"}
    used = {"sensor_msgs/CompressedImage", "tf2_msgs/TFMessage", "nav_msgs/Odometry"}
    assert len(known) > 60 and used <= known.keys()
    ours = {
        name.replace("/msg/", "/"): store.types.generate_msgdef(name, ros_version=1)[1]
        for name in names
    }
    assert known == {name: ours[name] for name in known}
