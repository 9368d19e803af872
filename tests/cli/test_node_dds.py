"""``bevstack node --dds`` takes what ``bevstack play-bag`` plays, and ends at an interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install 'bevstack[ros]'")

from bevstack.cli.main import main
from tests.cli.test_make_bag import root  # noqa: F401  a fixture
from tests.cli.test_node import CAMERAS, files  # noqa: F401  a fixture
from tests.runtime.ros.domains import own_domain


def test_a_played_bag_gives_results_and_an_interrupt_ends_the_node(
    files: tuple[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, bag = files
    domain = str(own_domain(4))
    ends: list[float] = []

    def play() -> None:
        options = ("--bag", bag, "--domain", domain, "--wait", "90", "--rate", "0.5")
        command = [sys.executable, "-m", "bevstack", "play-bag", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
        assert done.stdout == f"55 messages of {bag}\n", done.stderr
        time.sleep(1)
        ends.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=play)
    thread.start()
    # The processors of a test are shared: a message may come seconds late.
    settings = ("use_sim_time=true", CAMERAS, "sync_timeout_ms=400", "max_age_ms=20000")
    options = [word for setting in settings for word in ("--set", setting)]
    assert main(["node", "--weights", weights, "--dds", "--domain", domain, *options]) == 0
    assert ends and time.monotonic() - ends[0] < 10  # 2 s on a processor of its own
    thread.join()
    printed = capsys.readouterr().out
    assert f"active on domain {domain}, interface lo\n" in printed
    (line,) = (line for line in printed.splitlines() if "windows skipped" in line)
    results, skipped = (int(word) for word in line.split() if word.isdigit())
    # Three windows; on busy processors images may be lost, as best-effort topics allow.
    assert results >= 1 and results + skipped <= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "one of --bag FILE, --dds, --rclpy and --rospy must be given; got none"),
        (("--bag", "a.mcap", "--dds"), "--rclpy and --rospy must be given; got --bag and --dds"),
        (("--rospy", "--out", "a.bag"), "--sync and --out must be given with --bag; got --rospy"),
        (("--rclpy", "--sync"), "--sync and --out must be given with --bag; got --rclpy"),
        (
            ("--rclpy", "--domain", "3"),
            "--domain and --interface must be given with --dds; got --rc",
        ),
        (
            ("--rospy", "--interface", "eth0"),
            "must be given with --dds; got --rospy: its environment",
        ),
        (("--dds", "--sync"), "--sync and --out must be given with --bag; got --dds"),
        (("--dds", "--interface", "none0", "--domain", "75"), "interface must be one of this"),
    ],
)
def test_wrong_options_are_one_sentence(
    files: tuple[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    assert main(["node", "--weights", files[0], *options]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bag", "none.mcap"), "bag must exist; got no file"),
        (("--bag", "BAG", "--rate", "0", "--domain", "76"), "rate must be positive; got 0"),
    ],
)
def test_wrong_bags_are_not_played(
    files: tuple[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    words = [files[1] if word == "BAG" else word for word in options]
    assert main(["play-bag", *words]) == 2
    assert message in capsys.readouterr().err
