"""Measurement of one case in a process of its own: the first run, later runs, parts, memory.

python -m bevstack.experiments.benchmark.measure CASE.json FIGURES.json DEVICE SECONDS
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bevstack.experiments.benchmark.cases import BenchmarkCase
from bevstack.experiments.benchmark.subjects import Subject, make_subject

MOST_RUNS = 200
LEAST_RUNS = 3
# A model whose run takes longer than this is run once more after the first, not LEAST_RUNS times.
LONG_RUN_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Cost of one run of a case."""

    cold_ms: float  # first run in a fresh process, which also prepares kernels; wall time
    warm_ms: float  # median of the later runs; wall time
    processor_ms: float  # median of the later runs, summed over threads
    runs: int  # later runs
    memory_mb: float  # most memory of the process beyond that of the interpreter with torch
    parts_ms: dict[str, float]  # median wall time of the parts of a detector

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def measure(make: Callable[[], Subject], device: torch.device, seconds: float) -> Figures:
    """Run a subject for about ``seconds`` after its first run, and return its figures.

    Memory is that of the GPU where there is one, else of the process.
    """
    gpu = device.type == "cuda"
    before = _peak_mb()
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    subject = make()
    cold, _ = _timed(subject.run, device)
    walls: list[float] = []
    processors: list[float] = []
    with _timed_parts(subject.parts, device) as parts:
        until = time.perf_counter() + seconds
        least = 1 if cold > LONG_RUN_S else LEAST_RUNS
        while len(walls) < least or (time.perf_counter() < until and len(walls) < MOST_RUNS):
            wall, processor = _timed(subject.run, device)
            walls.append(wall)
            processors.append(processor)
            for times in parts.values():
                times.append(0.0)  # of the next run
    memory = torch.cuda.max_memory_allocated(device) / 2**20 if gpu else _peak_mb() - before
    return Figures(
        cold_ms=cold * 1e3,
        warm_ms=statistics.median(walls) * 1e3,
        processor_ms=statistics.median(processors) * 1e3,
        runs=len(walls),
        memory_mb=memory,
        parts_ms={
            name: statistics.median(times[: len(walls)]) * 1e3 for name, times in parts.items()
        },
    )


def _timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the seconds of one run by the clock, and of the processor."""
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    run()
    _wait(device)
    return time.perf_counter() - wall, time.process_time() - processor


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _timed_parts(
    parts: dict[str, nn.Module], device: torch.device
) -> Iterator[dict[str, list[float]]]:
    """Add the seconds of each part to the last number of its list, while it runs."""
    times: dict[str, list[float]] = {name: [0.0] for name in parts}
    started: dict[str, float] = {}
    handles = []

    def begin(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            _wait(device)
            started[name] = time.perf_counter()

        return hook

    def end(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            _wait(device)
            times[name][-1] += time.perf_counter() - started[name]

        return hook

    for name, part in parts.items():
        handles += [part.register_forward_pre_hook(begin(name))]
        handles += [part.register_forward_hook(end(name))]
    try:
        yield times
    finally:
        for handle in handles:
            handle.remove()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(words: list[str]) -> None:
    """Measure the case of a file and write its figures into another one."""
    source, target, device_name, seconds = words
    case = BenchmarkCase(**json.loads(Path(source).read_text("utf-8")))
    device = torch.device(device_name)
    torch.set_num_threads(case.threads)
    figures = measure(lambda: make_subject(case, device), device, float(seconds))
    Path(target).write_text(json.dumps(figures.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
