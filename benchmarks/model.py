"""Measures a whole detector, of a configuration, in the manner it runs in against the released one.

    python -m benchmarks.run model --config tiny_cpu_t4 --json benchmarks/results/model_cpu.json

Streaming: a step of eight key frames (3.5 s, whatever frames the configuration names), whose seven
past ones the memory holds as features, against a clip of all eight, whose images go through
backbone and neck anew at every step, as in the released code. Both give the same boxes, which is
checked; both run in turns in one process; a figure is the median.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.attention import nuscenes_rig
from benchmarks.timing import machine, medians
from bevstack.config import Config, TemporalConfig, load_config
from bevstack.geometry import CameraRig, invert_se3
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model
from bevstack.types import Batch, BEVMemory

SUMMARY = "a whole detector: steps of a stream against clips encoded anew"
FRAMES = tuple(range(-7, 1))
SPEED_MPS = 10.0
# Of the largest output: float32 sums of eight frames' images run in another order than of one's.
TOLERANCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which detector, and for how long."""
    parser.add_argument(
        "--config", default="tiny_cpu_t4", help="name or file (default tiny_cpu_t4)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each figure (default 10)")


def eight_frames(config: Config) -> Config:
    """The configuration with seven key frames before the current one."""
    temporal = config.temporal or TemporalConfig(norm="BN")
    return replace(config, frames=FRAMES, temporal=temporal)


def drive(config: Config) -> Batch:
    """A clip of noise from a nuScenes-like rig that drives straight ahead."""
    height, width = config.images.size
    multiple = config.images.pad_to
    padded = tuple(-(-size // multiple) * multiple for size in (height, width))
    rig = nuscenes_rig(0.0).resized((height, width))  # (1,)
    count, cameras = len(FRAMES), rig.num_cameras
    poses = torch.eye(4, dtype=torch.float64).repeat(1, count, 1, 1)
    step_s = config.temporal.frame_interval_s if config.temporal else 0.5
    poses[0, :, 0, 3] = torch.tensor(FRAMES) * SPEED_MPS * step_s
    current_from_own = invert_se3(poses[:, -1:]) @ poses
    images = torch.zeros(1, count, cameras, 3, *padded)
    images[..., :height, :width] = torch.randn(1, count, cameras, 3, height, width)
    return Batch(
        images=images,
        rig=CameraRig.stack([rig] * count, dim=1).moved(current_from_own),
        frame_valid=torch.ones(1, count, dtype=torch.bool),
        camera_slots=torch.arange(cameras)[None] % config.encoder.num_camera_embeddings,
        world_from_bev=poses,
        timestamp_us=(torch.tensor(FRAMES) * round(step_s * 1e6) + 10**15)[None],
        sample_tokens=("sample",),
        scene_tokens=("scene",),
    )


def moment(clip: Batch, slot: int) -> Batch:
    """One frame of a clip, as a step of a stream."""
    part = slice(slot, slot + 1)
    own_from_current = invert_se3(clip.world_from_bev[:, slot]) @ clip.world_from_bev[:, -1]
    return replace(
        clip,
        images=clip.images[:, part],
        rig=clip.rig[:, part].moved(own_from_current[:, None]),
        frame_valid=clip.frame_valid[:, part],
        world_from_bev=clip.world_from_bev[:, part],
        timestamp_us=clip.timestamp_us[:, part],
    )


def remember(model: BEVFormerV2, clip: Batch) -> BEVMemory:
    """What a stream holds before the last frame of a clip."""
    memory = None
    for slot in range(len(FRAMES) - 1):
        memory = model(moment(clip, slot), memory).memory
    assert memory is not None
    return memory


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def streaming(config: Config, arguments: argparse.Namespace) -> dict[str, Any]:
    """Cached features against all eight frames anew."""
    config = eight_frames(config)
    torch.manual_seed(0)
    model, clip = build_model(config).eval(), drive(config)
    with torch.no_grad():
        memory = remember(model, clip)
        newest = moment(clip, len(FRAMES) - 1)
        step, whole = model(newest, memory), model(clip)
        off = difference(step.bev, whole.bev)
        forgotten = difference(model(newest).bev, whole.bev)
        if off > TOLERANCE or forgotten < 100 * TOLERANCE:
            raise RuntimeError(
                f"stream and clip differ by {off} of the largest output, and by {forgotten} from "
                "one without history"
            )
        wall = arguments.threads > 1
        images = clip.images[0]  # (T, N, 3, H, W)

        def each_frame() -> None:
            for frame in images:  # one pass a frame, as released
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
        "relative_difference": off,
        "relative_difference_without_history": round(forgotten, 3),
        "backbone_and_neck": _pair(features),
        "whole_step": _pair(steps),
        "bytes_per_cached_frame": memory.bytes_per_frame,
        "cached_frames": memory.num_slots,
    }
    for what in ("backbone_and_neck", "whole_step"):
        ratio = row[what]
        print(
            f"streaming {what:20}{ratio['cached_ms']:12.1f}{ratio['anew_ms']:12.1f}"
            f"{ratio['speedup']:8.2f}",
            flush=True,
        )
    print(f"streaming {memory.bytes_per_frame:,} bytes a cached frame, {memory.num_slots} of them")
    return row


def _pair(medians_ms: list[float]) -> dict[str, float]:
    cached, anew = medians_ms
    return {
        "cached_ms": round(cached, 2),
        "anew_ms": round(anew, 2),
        "speedup": round(anew / cached, 2),
    }


SECTIONS = (streaming,)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs every section, and returns what they measured."""
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config)
    print(f"{config.name:30}{'cached ms':>12}{'anew ms':>12}{'x':>8}")
    return {
        **machine(),
        "config": config.name,
        "threads": arguments.threads,
        "clock": "wall" if arguments.threads > 1 else "process CPU time",
        "rows": [section(config, arguments) for section in SECTIONS],
    }
