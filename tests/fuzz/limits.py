"""Limits of processor time and memory for one call of a reader."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

CPU_SECONDS = 5.0
MEMORY_BYTES = 1 << 30


class Hang(BaseException):
    """A call that takes more processor time than permitted."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise ``Hang`` or MemoryError in the block if it needs too much time or memory."""

    def stop(signum: int, frame: object) -> None:
        raise Hang

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if statm.is_file():  # Linux
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
