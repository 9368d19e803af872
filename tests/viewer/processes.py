"""Processes of ``bevstack view``, and the ports that they open."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_viewer(arguments: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the verb on any port; yield the process and its address, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bevstack", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore SIGINT, and their children inherit it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address), process.stderr.read()
        yield process, address
    finally:
        process.kill()


def listening_addresses(port: int) -> set[str]:
    """Return the local addresses that listen on a port, from the kernel's tables."""
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(name).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found
