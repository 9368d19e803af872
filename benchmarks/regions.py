"""Benchmark of RoIAlign: the compiled operator against its reference in torch.

    python -m benchmarks.run regions --json benchmarks/results/regions_cpu.json

The maps are those of Mask R-CNN at 800x1333, of 256 channels. Regions are those of a test: 1000 for
the heads of boxes, of 7x7 bins, and 100 for the heads of masks, of 14x14 bins. Their sides are
drawn log-uniformly from 16 to 640 pixels. All calls alternate in one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import load, machine, time_runs
from bevstack import ops
from bevstack.models.detection2d.regions import STRIDES, region_levels
from bevstack.ops.roi_align import reference, reference_backward

SUMMARY = "RoIAlign: the compiled operator against its reference in torch"
SIZE, CHANNELS = (800, 1344), 256
CASES = {"boxes": (1000, 7), "masks": (100, 14)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: threads and duration."""
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="duration of each case (default 10)"
    )


def make_regions(count: int, generator: torch.Generator) -> Tensor:  # (R, 5)
    """Return regions within the picture."""
    sides = 16 * 40 ** torch.rand(count, 2, generator=generator)
    limits = torch.tensor([SIZE[1], SIZE[0]])
    low = torch.rand(count, 2, generator=generator) * (limits - sides)
    return torch.cat((torch.zeros(count, 1), low, low + sides), 1)


def make_calls(
    count: int, bins: int
) -> tuple[dict[str, Callable[[], Tensor]], dict[str, Callable[[], Tensor]]]:
    """Return the forward passes and the backward passes of both sides."""
    generator = torch.Generator().manual_seed(0)
    rois = make_regions(count, generator)
    levels = region_levels(rois, len(STRIDES))
    calls = []
    for level, stride in enumerate(STRIDES):
        shape = (1, CHANNELS, SIZE[0] // stride, SIZE[1] // stride)
        own = rois[levels == level]
        maps = torch.randn(shape, generator=generator)
        grad = torch.randn(len(own), CHANNELS, bins, bins, generator=generator)
        options = {
            "output_size": [bins, bins],
            "spatial_scale": 1 / stride,
            "sampling_ratio": 0,
            "aligned": True,
        }
        calls.append((maps, own, grad, options))
    own = torch.ops.bevstack

    def forward(run: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.cat([run(maps, rois, **o) for maps, rois, _, o in calls])

    def backward(run: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.cat([run(g, maps, rois, **o).flatten() for maps, rois, g, o in calls])

    return (
        {"compiled": forward(own.roi_align.default), "reference": forward(reference)},
        {
            "compiled": backward(own.roi_align_backward.default),
            "reference": backward(reference_backward),
        },
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time all cases, print each and return the figures.

    Raises:
        RuntimeError: There is no compiled operator, or its results differ.
    """
    if ops.native_problem() is not None:
        raise RuntimeError(f"the operators must be compiled; got {ops.native_problem()}")
    torch.set_num_threads(arguments.threads)
    wall = arguments.threads > 1
    rows = []
    for name, (count, bins) in CASES.items():
        for direction, calls in zip(("forward", "backward"), make_calls(count, bins), strict=True):
            ours, plain = (calls[side]() for side in ("compiled", "reference"))
            error = float((ours - plain).abs().max() / plain.abs().max())
            if error > 1e-4:  # float32 sums in another order
                raise RuntimeError(f"results must be equal; got {error:.2g} of the largest")
            timings = time_runs(list(calls.values()), arguments.seconds, wall)
            ms = {side: round(t.ms, 2) for side, t in zip(calls, timings, strict=True)}
            row = {
                "case": f"{name} {direction}",
                "regions": count,
                "bins": bins,
                "ms": ms,
                "times": round(ms["reference"] / ms["compiled"], 2),
                "relative_difference": float(f"{error:.2g}"),
            }
            print(f"{row['case']:16} {ms} times {row['times']}", flush=True)
            rows.append(row)
    return {
        **machine(),
        **load(),
        "threads": arguments.threads,
        "clock": "wall" if wall else "process CPU time",
        "rows": rows,
    }
