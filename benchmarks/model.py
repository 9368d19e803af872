"""Benchmark of a full detector: streaming with cached features against clips as in the release.

    python -m benchmarks.run model --config tiny_cpu_t4 --json benchmarks/results/model_cpu.json

Both forms use eight key frames (3.5 s), independent of the frames in the configuration. A streaming
step computes the current frame; the memory holds the features of the seven past frames. A clip runs
all eight frames through backbone and neck at every step, like the released code. The benchmark
checks that both outputs are equal, and runs both alternately in one process; a figure is the
median.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import machine, medians
from bevstack.config import Config, TemporalConfig, load_config
from bevstack.experiments.benchmark.drive import driving_clip, single_frame
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model
from bevstack.types import Batch, BEVMemory

SUMMARY = "a full detector: steps of a stream against clips encoded at every step"
FRAMES = tuple(range(-7, 1))
# Relative to the largest output: float32 sums of eight frames' images have another order.
TOLERANCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: detector and duration."""
    parser.add_argument(
        "--config",
        default="tiny_cpu_t4",
        help="name or file of a configuration (default tiny_cpu_t4)",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="duration of each figure (default 10)"
    )


def eight_frames(config: Config) -> Config:
    """Return the configuration with seven key frames before the current one."""
    temporal = config.temporal or TemporalConfig(norm="BN")
    return replace(config, frames=FRAMES, temporal=temporal)


def fill_memory(model: BEVFormerV2, clip: Batch) -> BEVMemory:
    """Return the memory of a stream before the last frame of a clip."""
    memory = None
    for slot in range(len(FRAMES) - 1):
        memory = model(single_frame(clip, slot), memory).memory
    assert memory is not None
    return memory


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest magnitude."""
    return float((one - other).abs().max() / other.abs().max())


def streaming(config: Config, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure steps with cached features against encoding all eight frames.

    Raises:
        RuntimeError: The outputs of stream and clip differ, or the history has no effect.
    """
    config = eight_frames(config)
    torch.manual_seed(0)
    model, clip = build_model(config).eval(), driving_clip(config, FRAMES)
    with torch.no_grad():
        memory = fill_memory(model, clip)
        newest = single_frame(clip, len(FRAMES) - 1)
        step, whole = model(newest, memory), model(clip)
        error = difference(step.bev, whole.bev)
        without_history = difference(model(newest).bev, whole.bev)
        if error > TOLERANCE or without_history < 100 * TOLERANCE:
            raise RuntimeError(
                f"stream and clip must agree to {TOLERANCE} of the largest output, and differ by "
                f"100 times that without history; got {error} and {without_history}"
            )
        wall = arguments.threads > 1
        images = clip.images[0]  # (T, N, 3, H, W)

        def each_frame() -> None:
            for frame in images:  # one pass per frame, like the released code
                model.extract_pyramid(frame[None])

        features = medians(
            [lambda: model.extract_pyramid(images[-1:]), each_frame], arguments.seconds, wall
        )
        steps = medians(
            [lambda: model(newest, memory), lambda: model(clip)], arguments.seconds, wall
        )
    row = {
        "case": "streaming",
        "frames": len(FRAMES),
        "relative_difference": error,
        "relative_difference_without_history": round(without_history, 3),
        "backbone_and_neck": _pair(features),
        "whole_step": _pair(steps),
        "bytes_per_cached_frame": memory.bytes_per_frame,
        "cached_frames": memory.num_slots,
    }
    for name in ("backbone_and_neck", "whole_step"):
        cached, encoded, speedup = row[name].values()
        print(f"streaming {name:20}{cached:12.1f}{encoded:12.1f}{speedup:8.2f}", flush=True)
    print(f"streaming {memory.bytes_per_frame:,} bytes per cached frame, {memory.num_slots} frames")
    return row


def _pair(medians_ms: list[float]) -> dict[str, float]:
    cached, encoded = medians_ms
    return {
        "cached_ms": round(cached, 2),
        "anew_ms": round(encoded, 2),  # all frames encoded again
        "speedup": round(encoded / cached, 2),
    }


SECTIONS = (streaming,)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run every section and return the figures."""
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config)
    print(f"{config.name:30}{'cached ms':>12}{'clip ms':>12}{'x':>8}")
    return {
        **machine(),
        "config": config.name,
        "threads": arguments.threads,
        "clock": "wall" if arguments.threads > 1 else "process CPU time",
        "rows": [section(config, arguments) for section in SECTIONS],
    }
