"""Programs that the tests of ROS start, where these tests run in the background of a shell."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.ros_peers.programs import Program

WAITING = """
import time
try:
    print("ready", flush=True)
    for _ in range(600):  # a signal that comes just before a sleep is served after it
        time.sleep(0.1)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_program_can_be_interrupted_if_the_tests_themselves_ignore_it(tmp_path: Path) -> None:
    """A shell starts its background jobs so; rosbag's recorder then ends with an error."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Program([sys.executable, "-c", WAITING], tmp_path, "waiting") as program:
            program.await_text("ready")
            assert program.interrupted() == "ready\ninterrupted\n"
    finally:
        signal.signal(signal.SIGINT, before)
