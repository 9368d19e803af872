"""Measures the operators against the `F.grid_sample` formulation that published CPU paths use.

    python tools/benchmark.py ops --json benchmarks/results/ops_cpu.json
    python tools/benchmark.py ops --threads 2 --only xl

Both run in turns in one process; a row is the median. On the CPU a time is the CPU time of the
whole process, so that one thread's figures hold on a busy machine; with more threads, wall time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bevstack import ops

PAIRS = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
# name: (height, width), channels, groups, offset_scale of InternImage-T on a 224x224 image and of
# InternImage-XL on one of 640x1600
DCNV3_SHAPES = {
    "t_stage1": ((56, 56), 64, 4, 1.0),
    "t_stage2": ((28, 28), 128, 8, 1.0),
    "t_stage3": ((14, 14), 256, 16, 1.0),
    "t_stage4": ((7, 7), 512, 32, 1.0),
    "xl_stage1": ((160, 400), 192, 12, 2.0),
    "xl_stage2": ((80, 200), 384, 24, 2.0),
    "xl_stage3": ((40, 100), 768, 48, 2.0),
    "xl_stage4": ((20, 50), 1536, 96, 2.0),
}
PYRAMID = ((80, 200), (40, 100), (20, 50), (10, 25))
# name: images, queries of an image, levels; eight heads of 32 channels, eight points
ATTENTION_SHAPES = {
    "spatial_cross_attention": (6, 8000, PYRAMID),
    "temporal_self_attention": (1, 40000, ((200, 200),)),
}


class Case(NamedTuple):
    """One operator at one size: its inputs, and both ways to compute it."""

    name: str
    tensors: tuple[Tensor, Tensor, Tensor]
    native: Callable[..., Tensor]
    grid_sample: Callable[..., Tensor]


def dcnv3_by_grid_sample(
    input: Tensor, offset: Tensor, mask: Tensor, groups: int, scale: float
) -> Tensor:
    """DCNv3 of a 3x3 kernel, stride 1: all samples of a group in one call, then weighted."""
    batch, height, width, channels = input.shape
    y = torch.arange(height, dtype=input.dtype, device=input.device).view(1, height, 1, 1, 1)
    x = torch.arange(width, dtype=input.dtype, device=input.device).view(1, 1, width, 1, 1)
    steps = torch.arange(-1, 2, dtype=input.dtype, device=input.device)
    grid_x, grid_y = steps.repeat_interleave(3), steps.repeat(3)  # columns outside
    pairs = offset.view(batch, height, width, groups, 9, 2)
    place_x = (x + (grid_x + pairs[..., 0]) * scale) * (2 / width) + (1 / width - 1)
    place_y = (y + (grid_y + pairs[..., 1]) * scale) * (2 / height) + (1 / height - 1)
    grid = torch.stack((place_x, place_y), -1)  # (B, H, W, G, 9, 2)
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(batch * groups, height * width, 9, 2)
    maps = input.permute(0, 3, 1, 2).reshape(batch * groups, channels // groups, height, width)
    samples = F.grid_sample(maps, grid, align_corners=False)  # (B * G, D, H * W, 9)
    weights = mask.view(batch, height * width, groups, 9).transpose(1, 2)
    output = (samples * weights.reshape(batch * groups, 1, height * width, 9)).sum(-1)
    return output.view(batch, channels, height, width).permute(0, 2, 3, 1).contiguous()


def attention_by_grid_sample(
    value: Tensor, locations: Tensor, weights: Tensor, shapes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Multi-scale deformable attention: one call a level, stacked, then weighted."""
    batch, _, heads, depth = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = 2 * locations - 1
    sampled = []
    maps = value.split([h * w for h, w in shapes], dim=1)
    for level, (height, width) in enumerate(shapes):
        image = maps[level].flatten(2).transpose(1, 2).reshape(batch * heads, depth, height, width)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(image, grid, align_corners=False))
    factors = weights.transpose(1, 2).reshape(batch * heads, 1, queries, len(shapes) * points)
    output = (torch.stack(sampled, dim=-2).flatten(-2) * factors).sum(-1)
    return output.view(batch, heads * depth, queries).transpose(1, 2).contiguous()


def dcnv3_case(name: str, device: torch.device) -> Case:
    """Offsets N(0, 1) pixel, stretched by offset_scale like the kernel's grid."""
    (height, width), channels, groups, scale = DCNV3_SHAPES[name]
    shape = (1, height, width)
    tensors = (
        torch.randn(*shape, channels, device=device),
        torch.randn(*shape, groups * 18, device=device),
        torch.rand(*shape, groups, 9, device=device).softmax(-1).flatten(-2),
    )
    return Case(
        f"dcnv3 {name}",
        tensors,
        lambda *t: ops.dcnv3(*t, groups=groups, offset_scale=scale, **PAIRS),
        lambda *t: dcnv3_by_grid_sample(*t, groups, scale),
    )


def attention_case(name: str, device: torch.device) -> Case:
    """Queries in the order of a scan over the image, points N(0, 4) pixels about them."""
    images, queries, shapes = ATTENTION_SHAPES[name]
    levels, pixels = len(shapes), sum(h * w for h, w in shapes)
    columns = round((queries * shapes[0][1] / shapes[0][0]) ** 0.5)
    index = torch.arange(queries)
    centers = torch.stack(
        ((index % columns + 0.5) / columns, (index // columns + 0.5) * columns / queries), -1
    )
    sizes = torch.tensor([[w, h] for h, w in shapes]).view(levels, 1, 2)
    noise = torch.randn(images, queries, 8, levels, 8, 2) * 4 / sizes
    locations = centers.view(1, queries, 1, 1, 1, 2) + noise
    weights = torch.rand(images, queries, 8, levels * 8).softmax(-1)
    tensors = (
        torch.randn(images, pixels, 8, 32, device=device),
        locations.to(device),
        weights.view(images, queries, 8, levels, 8).to(device),
    )
    return Case(
        f"ms_deform_attn {name}",
        tensors,
        lambda value, places, factors: ops.ms_deform_attn(value, shapes, places, factors),
        lambda *t: attention_by_grid_sample(*t, shapes),
    )


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


def measure(case: Case, bandwidth: float, seconds: float, wall: bool) -> dict[str, Any]:
    """Checks that both agree, then times them; a row of the result."""
    output = case.native(*case.tensors)
    difference = (output - case.grid_sample(*case.tensors)).abs().max().item()
    if difference > 1e-3 * output.abs().max().item():
        raise RuntimeError(f"{case.name}: the two differ by {difference}")
    compulsory = sum(t.nbytes for t in case.tensors) + output.nbytes
    row: dict[str, Any] = {"case": case.name}
    for what, prepare, traffic in (
        ("forward", forward, compulsory),
        # Reads the inputs twice and the gradient of the output; writes output and gradients.
        ("forward_backward", forward_backward, 3 * compulsory - output.nbytes),
    ):
        runs = [prepare(function, case.tensors) for function in (case.native, case.grid_sample)]
        ours, theirs = medians(runs, seconds, wall)
        row[what] = {
            "bevstack_ms": round(ours, 3),
            "grid_sample_ms": round(theirs, 3),
            "speedup": round(theirs / ours, 1),
            "bandwidth_floor_ms": round(traffic / bandwidth * 1e3, 3),
        }
    return row


def benchmark_ops(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prints a line for each case as it is measured and returns all of it."""
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
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "clock": "wall" if arguments.threads > 1 else "process CPU time",
        "kernels": [info._asdict() for info in ops.kernels()],
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "rows": rows,
    }


def main() -> None:
    """Measures and prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=["ops"], help="what to measure")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each figure (default 3)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    result = benchmark_ops(arguments)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
