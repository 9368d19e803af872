"""Benchmark of the operators' speedup on several threads.

    python -m benchmarks.run threads --json benchmarks/results/ops_threads.json

One thread and several threads run alternately, many times, in wall time. The ratio of the medians
is the speedup on a busy machine; the ratio of the best times is that on an idle machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import ATTENTION_SHAPES, DCNV3_SHAPES, attention_case, dcnv3_case
from benchmarks.ops import forward, forward_backward
from benchmarks.timing import load, machine, time_runs
from bevstack.datasets.worker_process import keep_freed_memory

SUMMARY = "the operators on several threads against one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: threads, cases and duration."""
    parser.add_argument(
        "--threads", type=int, default=2, help="threads to compare with one (default 2)"
    )
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="duration of each figure (default 6)"
    )
    parser.add_argument("--only", default="", help="measure only cases whose name contains this")


def on_threads(count: int, run: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that calls ``run`` with ``count`` threads of torch."""

    def call() -> Any:
        torch.set_num_threads(count)
        return run()

    return call


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases, print each when it is ready, and return the results."""
    keep_freed_memory()
    torch.manual_seed(0)
    device = torch.device("cpu")
    cases = [dcnv3_case(n, device) for n in DCNV3_SHAPES if arguments.only in n]
    cases += [attention_case(n, device) for n in ATTENTION_SHAPES if arguments.only in n]
    rows = []
    for case in cases:
        row: dict[str, Any] = {"case": case.name}
        for passes, prepare in (("forward", forward), ("forward_backward", forward_backward)):
            call = prepare(case.native, case.tensors)
            runs = [on_threads(n, call) for n in (1, arguments.threads)]
            one, several = time_runs(runs, arguments.seconds, wall=True)
            row[passes] = {
                "one_thread_ms": round(one.ms, 3),
                "threads_ms": round(several.ms, 3),
                "speedup": round(one.ms / several.ms, 2),
                "speedup_of_the_best": round(one.best_ms / several.best_ms, 2),
            }
            figures = "".join(f"{v:10}" for v in row[passes].values())
            print(f"{case.name:40} {passes:18}{figures}")
        rows.append(row)
    return {**machine(), **load(), "threads": arguments.threads, "clock": "wall", "rows": rows}
