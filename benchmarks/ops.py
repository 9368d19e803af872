"""Benchmark of the operators against the `F.grid_sample` formulation of published CPU code.

    python -m benchmarks.run ops --json benchmarks/results/ops_cpu.json
    python -m benchmarks.run ops --threads 2 --only xl
    python -m benchmarks.run ops --device cuda --peer dcnv4=PATH  # see cuda_ops.py

Both run alternately in one process; a figure is the median. With one thread, a time is the CPU time
of the process, so that figures are valid on a busy machine; with more threads it is wall time. For
both, the C allocator keeps freed memory, unless `--memory fresh` is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import cuda_ops
from benchmarks.cases import ATTENTION_SHAPES, DCNV3_SHAPES, Case, attention_case, dcnv3_case
from benchmarks.timing import copy_bandwidth, load, machine, time_runs
from bevstack import ops
from bevstack.datasets.worker_process import keep_freed_memory

SUMMARY = "the operators against the F.grid_sample formulation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: device, cases and duration."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    cuda_ops.add_arguments(parser)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="duration of each figure (default 3)"
    )
    parser.add_argument("--only", default="", help="measure only cases whose name contains this")
    parser.add_argument(
        "--memory",
        choices=("kept", "fresh"),
        default="kept",
        help="keep freed memory in the process, or get it from the system again each time",
    )


def forward(function: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> Callable[[], Any]:
    """Return a function that runs the forward pass once, without gradients."""

    def run() -> Tensor:
        with torch.no_grad():
            return function(*tensors)

    return run


def forward_backward(
    function: Callable[..., Tensor], tensors: tuple[Tensor, ...]
) -> Callable[[], Any]:
    """Return a function that runs the forward pass and the gradients to all inputs once."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    grad_output = torch.randn_like(function(*tensors))
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad_output)


def measure(case: Case, bandwidth: float, seconds: float, wall: bool) -> dict[str, Any]:
    """Check that both outputs agree, time both, and return a row of results.

    Raises:
        RuntimeError: The outputs differ.
    """
    output = case.native(*case.tensors)
    difference = (output - case.grid_sample(*case.tensors)).abs().max().item()
    if difference > 1e-3 * output.abs().max().item():
        raise RuntimeError(
            f"{case.name}: the two outputs must agree to 1e-3 of the largest number; got a "
            f"difference of {difference}"
        )
    row: dict[str, Any] = {"case": case.name}
    for passes, prepare, traffic in (
        ("forward", forward, case.bytes_forward()),
        ("forward_backward", forward_backward, case.bytes_forward_backward()),
    ):
        runs = [prepare(function, case.tensors) for function in (case.native, case.grid_sample)]
        ours, theirs = time_runs(runs, seconds, wall)
        row[passes] = {
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
    """Measure all cases, print each when it is ready, and return the results."""
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
        for passes in ("forward", "forward_backward"):
            r = rows[-1][passes]
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
