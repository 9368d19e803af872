"""Measures how much faster the operators are on several threads than on one.

    python -m benchmarks.run threads --json benchmarks/results/ops_threads.json

One thread and several run in turns, in wall time, many times: the ratio of the medians is what a
busy machine gives, that of the best what the kernels can do where nothing else runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import ATTENTION_SHAPES, DCNV3_SHAPES, attention_case, dcnv3_case
from benchmarks.ops import forward, forward_backward
from benchmarks.timing import load, machine, spent
from bevstack.datasets.worker_process import keep_freed_memory

SUMMARY = "the operators on several threads against one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many threads, which cases, for how long."""
    parser.add_argument("--threads", type=int, default=2, help="compared with one (default 2)")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each figure (default 6)")
    parser.add_argument("--only", default="", help="cases whose name contains this")


def on_threads(count: int, run: Callable[[], Any]) -> Callable[[], Any]:
    """Returns what runs it on so many threads of torch."""

    def call() -> Any:
        torch.set_num_threads(count)
        return run()

    return call


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prints a line for each case as it is measured and returns all of it."""
    keep_freed_memory()
    torch.manual_seed(0)
    device = torch.device("cpu")
    cases = [dcnv3_case(n, device) for n in DCNV3_SHAPES if arguments.only in n]
    cases += [attention_case(n, device) for n in ATTENTION_SHAPES if arguments.only in n]
    rows = []
    for case in cases:
        row: dict[str, Any] = {"case": case.name}
        for what, prepare in (("forward", forward), ("forward_backward", forward_backward)):
            call = prepare(case.native, case.tensors)
            runs = [on_threads(n, call) for n in (1, arguments.threads)]
            one, several = spent(runs, arguments.seconds, wall=True)
            row[what] = {
                "one_thread_ms": round(one.ms, 3),
                "threads_ms": round(several.ms, 3),
                "speedup": round(one.ms / several.ms, 2),
                "speedup_of_the_best": round(one.best_ms / several.best_ms, 2),
            }
            print(f"{case.name:40} {what:18}" + "".join(f"{v:10}" for v in row[what].values()))
        rows.append(row)
    return {**machine(), **load(), "threads": arguments.threads, "clock": "wall", "rows": rows}
