"""Processes of ``bevstack view``, and the ports that they open."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


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


class Ending(NamedTuple):
    """End of a process after a signal."""

    code: int  # exit code, or minus the signal
    wall_s: float
    cpu_s: float  # of the process and of the children that it waited for


def ending(process: subprocess.Popen[str], number: signal.Signals, limit_s: float = 60.0) -> Ending:
    """Send a signal to a process, and measure how it ends."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    before_s = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    start = time.monotonic()
    process.send_signal(number)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall_s = time.monotonic() - start
        if pid:
            break
        assert wall_s < limit_s, f"the process still runs {limit_s:g} s after {number.name}"
        time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)  # nothing is left to wait for
    cpu_s = usage.ru_utime + usage.ru_stime - before_s
    return Ending(process.returncode, wall_s, cpu_s)


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
