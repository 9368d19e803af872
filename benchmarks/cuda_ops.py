"""Benchmark of the operators on a GPU, with other projects' kernels ("peers") in the same run.

    python -m benchmarks.run ops --device cuda --json benchmarks/results/ops_cuda.json
    python -m benchmarks.run ops --device cuda --peer dcnv4=FILE --peer mmcv=FILE  # see peers.py

A call processes six images. Each figure is the median time of calls, measured by events of the
device. The calls alternate between sets of buffers, so that no cache holds them. Fractions are of
the copy bandwidth measured in the same run and count each input and output once. Kernels are
called without autograd. A "side" is one implementation in the comparison.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.cases import ATTENTION_SHAPES, DCNV3_SHAPES, PAIRS, Case, attention_case, dcnv3_case
from benchmarks.device import (
    Clock,
    clock_by_events,
    copies,
    copy_bandwidth,
    describe,
    require_gpu,
    rotation,
    sets_needed,
)
from benchmarks.timing import machine

IMAGES = 6
CALLS = 50  # for each figure
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Allowed difference of a peer's result, relative to the largest number: it sums in 16 bits.
WRONG = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option for other projects' kernels."""
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="on cuda: a compiled extension to compare with; NAME is one of "
        f"{', '.join(peers.PEERS)}",
    )


def read_peers(specifications: Sequence[str]) -> dict[str, Any]:
    """Load the extension of each `NAME=FILE`.

    Raises:
        ValueError: The name is not that of a supported peer.
        FileNotFoundError: The file does not exist.
    """
    loaded = {}
    for text in specifications:
        name, _, path = text.partition("=")
        if name not in peers.PEERS or not path:
            raise ValueError(
                f"--peer must be NAME=FILE, NAME one of {list(peers.PEERS)}; got {text}"
            )
        loaded[name] = peers.load_extension(Path(path))
    return loaded


def our_calls(case: Case, options: dict[str, Any]) -> peers.Calls:
    """Return the calls of our operators, without autograd."""
    name = case.name.split()[0]
    operator = getattr(torch.ops.bevstack, name).default
    gradient = getattr(torch.ops.bevstack, f"{name}_backward").default
    index = [None] if name == "ms_deform_attn" else []

    def forward(tensors: Sequence[Tensor]) -> Tensor:
        return operator(*tensors, *index, **options)

    def backward(tensors: Sequence[Tensor], grad_output: Tensor) -> Any:
        return gradient(grad_output, *tensors, *index, **options)

    return peers.Calls(list, forward, backward)


def sides_of(case: Case, modules: dict[str, Any]) -> dict[str, peers.Calls]:
    """Return our calls and those of every loaded peer that computes the same operator."""
    operator, name = case.name.split()
    if operator == "dcnv3":
        _, channels, groups, scale = DCNV3_SHAPES[name]
        window = (groups, channels // groups, scale)
        sides = {"bevstack": our_calls(case, {**PAIRS, "groups": groups, "offset_scale": scale})}
        makers = {"dcnv3": peers.dcnv3_calls, "dcnv4": peers.dcnv4_calls}
        sides.update({k: make(modules[k], *window) for k, make in makers.items() if k in modules})
        return sides
    shapes = ATTENTION_SHAPES[name][2]
    flat = [size for shape in shapes for size in shape]
    sides = {"bevstack": our_calls(case, {"spatial_shapes": flat})}
    if "mmcv" in modules:
        sides["mmcv"] = peers.mmcv_calls(modules["mmcv"], shapes, case.tensors[0].device)
    return sides


def measure_side(calls: peers.Calls, case: Case, clock: Clock, sets: int) -> dict[str, float]:
    """Return the median milliseconds of one side's passes, alternating between buffer sets."""
    prepared = calls.pack(case.tensors)
    grad_output = torch.ones_like(calls.forward(prepared))
    with_grads = rotation(copies([*prepared, grad_output], sets))

    def backward() -> Any:
        *tensors, grad = with_grads()
        return calls.backward(tensors, grad)

    def forward() -> Any:
        return calls.forward(with_grads()[:-1])

    figures = {}
    for name, call in (("forward", forward), ("backward", backward)):
        figures[name] = statistics.median(clock(call, CALLS)) * 1e3
    return figures


def measure(
    case: Case, sides: dict[str, peers.Calls], clock: Clock, *, bandwidth: float, sets: int
) -> dict[str, Any]:
    """Return a row of results: times, bandwidth fractions, and times relative to ours."""
    dtype = str(case.tensors[0].dtype).removeprefix("torch.")
    row: dict[str, Any] = {"case": case.name, "dtype": dtype, "sets": sets}
    wanted = sides["bevstack"].forward(sides["bevstack"].pack(case.tensors))
    for name, calls in sides.items():
        row[name] = failure = check_side(calls, case, wanted)
        if failure:
            continue
        ms = measure_side(calls, case, clock, sets)
        both = ms["forward"] + ms["backward"]
        row[name] = {
            "forward_ms": round(ms["forward"], 4),
            "forward_backward_ms": round(both, 4),
            "forward_fraction": fraction(case.bytes_forward(), ms["forward"], bandwidth),
            "forward_backward_fraction": fraction(case.bytes_forward_backward(), both, bandwidth),
        }
        if name != "bevstack":
            for passes in ("forward", "forward_backward"):
                ours = row["bevstack"][f"{passes}_ms"]
                row[name][f"{passes}_times_ours"] = round(row[name][f"{passes}_ms"] / ours, 2)
    return row


def fraction(minimum_bytes: int, ms: float, bandwidth: float) -> float:
    """Return the fraction of the copy bandwidth that moving `minimum_bytes` in this time takes."""
    return round(minimum_bytes / (ms / 1e3) / bandwidth, 3)


def check_side(calls: peers.Calls, case: Case, wanted: Tensor) -> dict[str, str] | None:
    """Run both passes once and return a description of the failure, or None."""
    try:
        prepared = calls.pack(case.tensors)
        output = calls.forward(prepared).view_as(wanted)
        calls.backward(prepared, torch.ones_like(output))
        difference = (output.float() - wanted.float()).abs().max() / wanted.float().abs().max()
    except RuntimeError as error:
        return {"failed": str(error).splitlines()[0]}
    if not difference <= WRONG:
        return {"wrong": f"differs from ours by {difference:.2g} of the largest number"}
    return None


def in_type(case: Case, dtype: torch.dtype) -> Case:
    """Return the case with all tensors converted to one type."""
    values, points, factors = case.tensors
    return case._replace(tensors=(values.to(dtype), points.to(dtype), factors.to(dtype)))


def run(arguments: argparse.Namespace, clock: Clock = clock_by_events) -> dict[str, Any]:
    """Measure all rows, print each when it is ready, and return them."""
    device = require_gpu()
    modules = read_peers(arguments.peer)
    torch.manual_seed(0)
    described = describe(device)
    bandwidth = copy_bandwidth(device, clock)
    makers: list[tuple[str, Callable[[], Case]]] = []
    for name in DCNV3_SHAPES:
        makers.append((name, lambda name=name: dcnv3_case(name, device, IMAGES)))
    for name in ATTENTION_SHAPES:
        makers.append((name, lambda name=name: attention_case(name, device)))
    rows = []
    for _, make in (m for m in makers if arguments.only in m[0]):
        case = make()
        for dtype in DTYPES.values():
            typed = in_type(case, dtype)
            free = torch.cuda.mem_get_info(device)[0] // 3
            sets = sets_needed(sum(t.nbytes for t in typed.tensors), described["l2_bytes"], free)
            sides = sides_of(typed, modules)
            rows.append(measure(typed, sides, clock, bandwidth=bandwidth, sets=sets))
            print(rows[-1], flush=True)
    return {**machine(), **described, "copy_gb_per_s": round(bandwidth / 1e9), "rows": rows}
