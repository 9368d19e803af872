"""Options of the verbs that use the topics of ROS 2, and their end by an interrupt."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


def add_dds(parser: argparse._ActionsContainer) -> None:
    """Declare ``--domain`` and ``--interface``."""
    parser.add_argument(
        "--domain", type=int, default=0, metavar="N", help="ROS_DOMAIN_ID (default: %(default)s)"
    )
    parser.add_argument(
        "--interface",
        default="lo",
        metavar="NAME",
        help="network interface; lo: this machine alone; auto: chosen by Cyclone DDS (default: "
        "%(default)s)",
    )


@contextlib.contextmanager
def ended_by_interrupt() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; a second one kills the program."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()
        signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield ended
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
