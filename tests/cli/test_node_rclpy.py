"""``bevstack node --rclpy`` on a stand-in for an installation of ROS 2, and without one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.cli.main import main
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import open_store
from tests.cli.test_make_bag import root  # noqa: F401  a fixture
from tests.cli.test_node import CAMERAS, files  # noqa: F401  a fixture
from tests.runtime.ros.fake_rclpy import installed
from tests.runtime.ros.fake_rclpy.messages import deserialize
from tests.runtime.ros.fake_rclpy.network import Network
from tests.runtime.ros.fake_rclpy.running import wait_for
from tests.runtime.ros.fake_rclpy.values import DurabilityPolicy


def play(network: Network, bag: str, pace: float) -> None:
    """Play a bag for the node, with a clock, as `ros2 bag play --clock` does."""
    with BagReader(Path(bag), network.store) as reader:
        start_ns, begin = reader.span_ns[0], time.monotonic()
        for raw in reader.messages([t for t in reader.topics if t != "/clock"]):
            due = begin + (raw.time_ns - start_ns) * 1e-9 / pace
            time.sleep(max(0.0, due - time.monotonic()))
            seconds, nanoseconds = divmod(raw.time_ns, 1_000_000_000)
            stamp = network.message("builtin_interfaces/Time", sec=seconds, nanosec=nanoseconds)
            network.publish("/clock", network.message("rosgraph_msgs/Clock", clock=stamp))
            package, _, name = reader.topics[raw.topic].split("/")
            message = deserialize(network.store, raw.data, network.packages[package][name])
            latched = raw.topic == "/tf_static"
            durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            network.publish(raw.topic, message, durability=durability)


def test_a_bag_that_is_played_gives_results_and_an_interrupt_ends_the_node(
    files: tuple[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, bag = files
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    ends: list[float] = []
    with installed(open_store("jazzy")) as network:
        results = network.listen("/bevstack/objects", "autoware_perception_msgs/DetectedObjects")

        def run() -> None:
            try:
                wait_for(lambda: "bevstack" in network.nodes)
                wait_for(lambda: network.get_state("bevstack") == "active")
                play(network, bag, 0.5)
                time.sleep(1)
            finally:
                ends.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=run)
        thread.start()
        settings = ("use_sim_time=true", CAMERAS, "sync_timeout_ms=400", "max_age_ms=20000")
        options = [word for setting in settings for word in ("--set", setting)]
        assert main(["node", "--weights", weights, "--rclpy", *options]) == 0
        assert time.monotonic() - ends[0] < 10  # 2 s on a processor of its own
        thread.join()
    printed = capsys.readouterr().out
    assert "active on the topics of ROS 2 as /bevstack\n" in printed
    (line,) = (line for line in printed.splitlines() if "windows skipped" in line)
    published, skipped = (int(word) for word in line.split() if word.isdigit())
    assert 1 <= len(results) == published <= 3 - skipped


def test_without_rclpy_one_sentence_names_the_page(
    files: tuple[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert main(["node", "--weights", files[0], "--rclpy"]) == 2
    error = capsys.readouterr().err
    assert "rclpy must be importable; got" in error and len(error.splitlines()) == 1
