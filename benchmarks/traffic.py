"""Benchmark of what lights and signs add to a frame: their view, backbone pass included.

    python -m benchmarks.run traffic --json benchmarks/results/traffic_cpu.json

A frame is a streaming step of the boxes on six images, from whole images to boxes. The traffic head
predicts from the same frame, from whole images to elements. Views differ in the rows of the front
image that they see, and in the stages of the backbone. Runs alternate in one process; a figure is
the median, and a share is that of the frame of the boxes.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.timing import load, machine, medians
from bevstack.config import Config, load_config
from bevstack.costs.traffic import NATIVE_SIZE
from bevstack.models.build import build_model
from bevstack.models.build_traffic import build_traffic_model, traffic_section
from bevstack.runtime.detector import Detector
from bevstack.runtime.traffic_predictor import TrafficPredictor
from bevstack.synthetic.rig import make_rig
from bevstack.types import Frame

SUMMARY = "what lights and signs add to a frame of the boxes"
SIZE = (450, 800)  # (H, W) of the images
VIEWS: tuple[tuple[str, tuple[float, float], tuple[int, ...]], ...] = (
    ("whole front image", (0.0, 1.0), (0, 1)),
    ("as configured", (0.0, 0.65), (0, 1)),
    ("upper half", (0.0, 0.5), (0, 1)),
    ("as configured, first stage alone", (0.0, 0.65), (0,)),
    ("as configured, three stages", (0.0, 0.65), (0, 1, 2)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: detector and duration."""
    parser.add_argument("--config", default="tiny_cpu_t4_traffic", help="a configuration")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--seconds", type=float, default=20.0, help="duration (default 20)")
    parser.add_argument(
        "--once",
        action="store_true",
        help="one frame of the traffic head alone, 900x1600: processor time and peak memory",
    )


def noise_frame(number: int, size: tuple[int, int] = SIZE) -> Frame:
    """Return a frame of noise from a nuScenes-like rig that stands still, 0.5 s apart."""
    mounts = make_rig("n015", size, None).cameras
    rng = np.random.default_rng(number)
    poses = np.repeat(np.eye(4)[None], len(mounts), 0)
    for pose, mount in zip(poses, mounts, strict=True):
        pose[:3, :3], pose[:3, 3] = mount.ego_from_cam_rotation, mount.ego_from_cam_translation_m
    return Frame(
        images=[rng.integers(0, 256, (*size, 3), np.uint8) for _ in mounts],
        intrinsics=torch.from_numpy(np.stack([mount.intrinsics for mount in mounts])),
        ego_from_cam=torch.from_numpy(poses),
        camera_names=tuple(mount.channel for mount in mounts),
        timestamp_us=10**15 + number * 500_000,
        world_from_ego=torch.eye(4, dtype=torch.float64),
        scene_token="scene",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the boxes' frame and every view."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = load_config(arguments.config)
    if arguments.once:
        return run_once(config)
    stream = Detector(build_model(replace(config, traffic=None)).eval(), config).stream()
    frames = [noise_frame(number) for number in range(4)]
    for frame in frames[:-1]:
        stream.step(frame)
    numbers = iter(range(len(frames), 10**9))

    def boxes() -> None:
        number = next(numbers)
        stream.step(replace(frames[-1], timestamp_us=10**15 + number * 500_000))

    predictors = [make_predictor(config, rows, stages) for _, rows, stages in VIEWS]
    runs = [boxes, *(lambda p=p: p.predict(frames[-1]) for p in predictors)]
    with torch.no_grad():
        frame_ms, *view_ms = medians(runs, arguments.seconds, arguments.threads > 1)
    rows = [
        {
            "view": name,
            "rows": list(part),
            "stages": list(stages),
            "ms": round(ms * 1.0, 1),
            "share_of_frame": round(ms / frame_ms, 3),
        }
        for (name, part, stages), ms in zip(VIEWS, view_ms, strict=True)
    ]
    for row in rows:
        print(f"{row['view']:36s} {row['ms']:8.1f} ms  {100 * row['share_of_frame']:5.1f} %")
    print(f"boxes alone: {frame_ms:.1f} ms")
    return {
        "machine": machine(),
        "load": load(),
        "config": config.name,
        "image_size": list(SIZE),
        "threads": arguments.threads,
        "boxes_ms": round(frame_ms, 1),
        "views": rows,
    }


def run_once(config: Config) -> dict[str, Any]:
    """Measure one frame of the traffic head alone, with random weights."""
    section = traffic_section(config)
    predictor = make_predictor(config, section.rows, section.stages)
    start_s = time.process_time()
    predictor.predict(noise_frame(0, NATIVE_SIZE))
    spent_s = time.process_time() - start_s
    memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{config.name}: {spent_s:.0f} s of processor time, {memory_gib:.1f} GiB at the most")
    return {
        "machine": machine(),
        "config": config.name,
        "image_size": list(NATIVE_SIZE),
        "cameras": section.num_cameras,
        "process_s": round(spent_s, 1),
        "peak_memory_gib": round(memory_gib, 2),
    }


def make_predictor(
    config: Config, rows: tuple[float, float], stages: tuple[int, ...]
) -> TrafficPredictor:
    """Return a predictor with random weights for another view."""
    section = replace(traffic_section(config), rows=rows, stages=stages)
    changed = replace(config, traffic=section)
    return TrafficPredictor(build_traffic_model(changed).eval(), changed)
