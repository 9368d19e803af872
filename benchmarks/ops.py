"""Measures the operators against the `F.grid_sample` formulation that published CPU paths use.

    python -m benchmarks.run ops --json benchmarks/results/ops_cpu.json
    python -m benchmarks.run ops --threads 2 --only xl
    python -m benchmarks.run ops --device cuda --peer dcnv4=PATH  # see cuda_ops.py

Both run in turns in one process; a row is the median. On the CPU a time is the processor time of
the whole process, so that one thread's figures hold on a busy machine; with more threads it is wall
time. The C allocator keeps memory that is freed, for both, unless `--memory fresh` is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import cuda_ops
from benchmarks.cases import ATTENTION_SHAPES, DCNV3_SHAPES, Case, attention_case, dcnv3_case
from benchmarks.timing import copy_bandwidth, load, machine, spent
from bevstack import ops
from bevstack.datasets.worker_process import keep_freed_memory

SUMMARY = "the operators against the F.grid_sample formulation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, and for how long."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    cuda_ops.add_arguments(parser)
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure (default 3)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument(
        "--memory",
        choices=("kept", "fresh"),
        default="kept",
        help="whether freed memory stays with the process or is got from the system anew",
    )


def forward(function: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> Callable[[], Any]:
    """Returns what runs the function once without gradients."""

    def run() -> Tensor:
        with torch.no_grad():
            return function(*tensors)

    return run


def forward_backward(
    function: Callable[..., Tensor], tensors: tuple[Tensor, ...]
) -> Callable[[], Any]:
    """Returns what runs the function and the gradients of all its inputs once."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    grad_output = torch.randn_like(function(*tensors))
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad_output)


def measure(case: Case, bandwidth: float, seconds: float, wall: bool) -> dict[str, Any]:
    """Checks that both agree, then times them; a row of the result."""
    output = case.native(*case.tensors)
    difference = (output - case.grid_sample(*case.tensors)).abs().max().item()
    if difference > 1e-3 * output.abs().max().item():
        raise RuntimeError(f"{case.name}: the two differ by {difference}")
    row: dict[str, Any] = {"case": case.name}
    for what, prepare, traffic in (
        ("forward", forward, case.bytes_forward()),
        ("forward_backward", forward_backward, case.bytes_forward_backward()),
    ):
        runs = [prepare(function, case.tensors) for function in (case.native, case.grid_sample)]
        ours, theirs = spent(runs, seconds, wall)
        row[what] = {
            "bevstack_ms": round(ours.ms, 3),
            "grid_sample_ms": round(theirs.ms, 3),
            "speedup": round(theirs.ms / ours.ms, 1),
            "speedup_of_the_best": round(theirs.best_ms / ours.best_ms, 1),
            "bandwidth_floor_ms": round(traffic / bandwidth * 1e3, 3),
            "system_share": [round(ours.system_share, 3), round(theirs.system_share, 3)],
            "page_faults": [round(ours.page_faults), round(theirs.page_faults)],
        }
    return row


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prints a line for each case as it is measured and returns all of it."""
    if arguments.device == "cuda":
        return cuda_ops.run(arguments)
    kept = arguments.memory == "kept" and keep_freed_memory()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    bandwidth = copy_bandwidth(wall=arguments.threads > 1)
    device = torch.device("cpu")
    cases = [(dcnv3_case, n) for n in DCNV3_SHAPES] + [
        (attention_case, n) for n in ATTENTION_SHAPES
    ]
    print(f"{'':40}{'forward ms':>32}{'forward + backward ms':>32}")
    print(f"{'':40}{'ours':>12}{'grid_sample':>12}{'x':>8}{'ours':>12}{'grid_sample':>12}{'x':>8}")
    rows = []
    for make, name in cases:
        if arguments.only not in name:
            continue
        rows.append(
            measure(make(name, device), bandwidth, arguments.seconds, arguments.threads > 1)
        )
        line = f"{rows[-1]['case']:40}"
        for what in ("forward", "forward_backward"):
            r = rows[-1][what]
            line += f"{r['bevstack_ms']:12.2f}{r['grid_sample_ms']:12.2f}{r['speedup']:8.1f}"
        print(line, flush=True)
    return {
        **machine(),
        "threads": arguments.threads,
        "memory": "kept by the C allocator" if kept else "from the system each time",
        **load(),
        "clock": "wall" if arguments.threads > 1 else "process CPU time",
        "kernels": [info._asdict() for info in ops.kernels()],
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "rows": rows,
    }
