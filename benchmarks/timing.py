"""Timing of alternating runs, and data about the machine, for all benchmarks."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch


def copy_bandwidth(wall: bool) -> float:
    """Return the best of ten bandwidths of copying 256 MB, in bytes read and written a second."""
    clock = time.perf_counter if wall else time.process_time
    source = torch.ones(64 << 20)
    target = torch.zeros_like(source)
    seconds = []
    for _ in range(10):
        start = clock()
        target.copy_(source)
        seconds.append(clock() - start)
    return 2 * source.nbytes / min(seconds)


class Timing(NamedTuple):
    """Cost of one run of a function."""

    ms: float  # median
    best_ms: float
    system_share: float  # of its CPU time in the system, mostly for first accesses to memory
    page_faults: float  # number of such first accesses


def time_runs(runs: list[Callable[[], Any]], seconds: float, wall: bool) -> list[Timing]:
    """Run all functions alternately for about `seconds`, at least three times, and time them.

    Times are CPU times of all threads, or wall times with ``wall``.
    """
    clock = time.perf_counter if wall else time.process_time
    all_times: list[list[float]] = [[] for _ in runs]
    usages = [_Usage() for _ in runs]
    for run in runs:
        run()
    until = time.perf_counter() + seconds
    while len(all_times[0]) < 3 or time.perf_counter() < until:
        for run, times, usage in zip(runs, all_times, usages, strict=True):
            run()  # fills the caches with this function's data before the timed run
            usage.begin()
            start = clock()
            run()
            times.append(clock() - start)
            usage.end()
    return [
        Timing(statistics.median(times) * 1e3, min(times) * 1e3, usage.share(), usage.faults())
        for times, usage in zip(all_times, usages, strict=True)
    ]


def medians(runs: list[Callable[[], Any]], seconds: float, wall: bool) -> list[float]:
    """Return the median milliseconds of each function, timed by ``time_runs``."""
    return [timing.ms for timing in time_runs(runs, seconds, wall)]


class _Usage:
    """Sums of CPU time and page faults over runs."""

    def __init__(self) -> None:
        self._runs, self._faults, self._user, self._system = 0, 0, 0.0, 0.0

    def begin(self) -> None:
        self._before = resource.getrusage(resource.RUSAGE_SELF)

    def end(self) -> None:
        after, before = resource.getrusage(resource.RUSAGE_SELF), self._before
        self._runs += 1
        self._faults += after.ru_minflt - before.ru_minflt
        self._user += after.ru_utime - before.ru_utime
        self._system += after.ru_stime - before.ru_stime

    def share(self) -> float:
        return self._system / max(self._user + self._system, 1e-9)

    def faults(self) -> float:
        return self._faults / self._runs


def load() -> dict[str, Any]:
    """Return the load of the machine and the setting of how threads wait for work."""
    return {
        "load_average": [round(x, 1) for x in os.getloadavg()],
        "processors": os.cpu_count(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def machine() -> dict[str, str]:
    """Return the machine and versions that a result's figures are valid for."""
    return {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
