"""Clocks, repetitions and the machine's own figures, for every part of the benchmark."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

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


def medians(runs: list[Callable[[], Any]], seconds: float, wall: bool) -> list[float]:
    """Runs all in turns for about `seconds`, at least three times; median milliseconds of each."""
    clock = time.perf_counter if wall else time.process_time
    taken: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    until = time.perf_counter() + seconds
    while len(taken[0]) < 3 or time.perf_counter() < until:
        for run, times in zip(runs, taken, strict=True):
            run()  # so that each finds the caches as it left them, not as the other did
            start = clock()
            run()
            times.append(clock() - start)
    return [statistics.median(times) * 1e3 for times in taken]


def machine() -> dict[str, str]:
    """What a result's figures hold for."""
    return {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
