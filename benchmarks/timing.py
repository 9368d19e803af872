"""Clocks, repetitions and the machine's own figures, for every part of the benchmark."""

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
    """Bytes a second, read and written, of copying 256 MB; the best of ten."""
    clock = time.perf_counter if wall else time.process_time
    source = torch.ones(64 << 20)
    target = torch.zeros_like(source)
    seconds = []
    for _ in range(10):
        start = clock()
        target.copy_(source)
        seconds.append(clock() - start)
    return 2 * source.nbytes / min(seconds)


class Spent(NamedTuple):
    """What one run of something takes."""

    ms: float  # median
    best_ms: float
    system_share: float  # of its processor time in the system, most of it for memory touched first
    page_faults: float  # such first touches


def spent(runs: list[Callable[[], Any]], seconds: float, wall: bool) -> list[Spent]:
    """Runs all in turns for about `seconds`, at least three times.

    Times are of the processor, of all threads, unless ``wall``.
    """
    clock = time.perf_counter if wall else time.process_time
    taken: list[list[float]] = [[] for _ in runs]
    used = [_Usage() for _ in runs]
    for run in runs:
        run()
    until = time.perf_counter() + seconds
    while len(taken[0]) < 3 or time.perf_counter() < until:
        for run, times, usage in zip(runs, taken, used, strict=True):
            run()  # so that each finds the caches as it left them, not as the other did
            usage.begin()
            start = clock()
            run()
            times.append(clock() - start)
            usage.end()
    return [
        Spent(statistics.median(times) * 1e3, min(times) * 1e3, usage.share(), usage.faults())
        for times, usage in zip(taken, used, strict=True)
    ]


def medians(runs: list[Callable[[], Any]], seconds: float, wall: bool) -> list[float]:
    """Runs all in turns for about `seconds`, at least three times; median milliseconds of each."""
    return [taken.ms for taken in spent(runs, seconds, wall)]


class _Usage:
    """Sums of processor time and page faults over runs."""

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
    """What else the machine was doing, and how threads wait for work."""
    return {
        "load_average": [round(x, 1) for x in os.getloadavg()],
        "processors": os.cpu_count(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def machine() -> dict[str, str]:
    """What a result's figures hold for."""
    return {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
