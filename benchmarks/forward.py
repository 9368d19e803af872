"""Calls of operators in one frame, and those that wait for a GPU or copy to it.

    OMP_NUM_THREADS=1 python -m benchmarks.run forward --config bevformerv2_internimage_xl_t1

The model runs with bounds of its sizes on tensors without data, so that any size is quick and needs
no GPU. `--lines` also lists the lines of the package that wait or copy.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.dispatch_counts import COPY, SYNC, DispatchCounts
from bevstack.config import load_config
from bevstack.costs.macs import shapes_only
from bevstack.experiments.benchmark.drive import driving_clip
from bevstack.geometry import CameraRig
from bevstack.models.build import build_model
from bevstack.models.layers.sizes import Bounds
from bevstack.types import Batch

SUMMARY = "calls, waits and copies of one frame of a whole detector"
BOUNDS = Bounds(pairs=65536, candidates=512, rounds=16, mirrored=0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: detector and listing."""
    parser.add_argument(
        "--config", default="bevformerv2_internimage_xl_t1", help="name or file of a configuration"
    )
    parser.add_argument("--lines", action="store_true", help="list lines that wait or copy")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Count, print and return the calls of the first frame of a stream."""
    config = load_config(arguments.config)
    height, width = config.images.size
    multiple = config.images.pad_to
    padded = [-(-size // multiple) * multiple for size in (height, width)]
    small = replace(config, images=replace(config.images, size=(32, 64)))
    frame = driving_clip(small, (0,))
    with torch.device("meta"):
        model = build_model(config).eval()
    with shapes_only(model), torch.no_grad():
        frame = _without_data(frame)
        frame = replace(frame, images=torch.empty(*frame.images.shape[:4], *padded))
        with DispatchCounts() as counts:
            model(frame, bounds=BOUNDS)
    result = {
        "config": config.name,
        "calls": counts.calls,
        "waits": counts.count(SYNC),
        "copies": counts.count(COPY),
    }
    print(result)
    if arguments.lines:
        for (kind, operator, line), number in sorted(counts.sites.items()):
            print(f"{number:5d} {kind} {operator} {line}")
    return result


def _without_data(batch: Batch) -> Batch:
    """Return the batch with new tensors of the same shapes."""

    def empty(tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype)

    names = ("images", "frame_valid", "camera_slots", "world_from_bev", "timestamp_us")
    tensors = {name: empty(getattr(batch, name)) for name in names}
    return replace(batch, rig=CameraRig(*map(empty, vars(batch.rig).values())), **tensors)
