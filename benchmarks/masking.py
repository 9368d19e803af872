"""Benchmark of masks: what a detector gains or loses if it does not attend to a damaged camera.

    bevstack make-world world --preset small --train-scenes 0 --val-scenes 6 --test-scenes 0
    python -m benchmarks.run masking --nuscenes world --json benchmarks/results/masking.json

First, half of the cameras of each scene, drawn at random, have one fault in every frame. The scores
with these cameras masked do not depend on the fault; those without a mask do. A state is worth a
mask if its faults score less without one. Then all cameras are corrupted as in
``bevstack evaluate --corruptions``, and those that ``HealthMonitor`` names are masked, hints too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from benchmarks.timing import machine
from bevstack.config.health import HealthConfig
from bevstack.datasets.corruptions import CORRUPTIONS, LEVELS, corrupt_frame
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.scoring import load, score
from bevstack.experiments.corruptions.blind import BlindFrameDetector
from bevstack.experiments.judge.disturbances import ChangedFrames
from bevstack.experiments.sectors.faults import Fault, FaultyDrive
from bevstack.runtime.health import HealthMonitor
from bevstack.runtime.loading import load as load_detector
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.stream_protocol import FrameDetector
from bevstack.types import Frame

SUMMARY = "scores with damaged cameras, masked and not masked"
SEED = 5
# Strengths as in experiments/sectors/faults.py.
FAULTS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "black": (2.0,),
        "over_exposed": (8.0, 16.0),
        "noise": (15.0, 30.0, 60.0),
        "blurred": (8.0, 16.0),
        "covered": (0.7, 0.9),
    }
)
# Corruptions of all cameras that some state may name.
CORRUPTED = ("Brightness", "Snow")

Cameras = Mapping[str, list[int]]  # indices by scene token
Change = Callable[[int, Frame], Frame]
Measure = Callable[[Change], dict[str, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: the weights and the data."""
    parser.add_argument("--weights", default="tiny_cpu_t4", help="default tiny_cpu_t4")
    parser.add_argument("--nuscenes", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--version", default="v1.0-synth", help="folder of the tables")
    parser.add_argument("--split", default="synth_val", help="split of the scenes")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score the split under each fault and corruption, and print the figures.

    Raises:
        FileNotFoundError: the weights or the data set do not exist.
    """
    torch.set_num_threads(1)
    dataset = NuScenesDataset(arguments.nuscenes, arguments.version, split=arguments.split)
    detector = BlindFrameDetector(load_detector(arguments.weights), health=False)
    measure = partial(measure_split, detector, dataset)
    print(f"{'':22}{'not masked':>22}{'masked':>22}\n{'':22}" + "       mAP        NDS" * 2)
    return {
        "command": (
            f"python -m benchmarks.run masking --weights {arguments.weights} --nuscenes WORLD "
            f"--version {arguments.version} --split {arguments.split}"
        ),
        "machine": machine(),
        "scenes": len(dataset.scene_names),
        "samples": len(dataset),
        "half_of_the_cameras": damage_half(measure, choose_cameras(dataset)),
        "all_cameras": corrupt_all(measure),
    }


def choose_cameras(dataset: NuScenesDataset) -> Cameras:
    """Draw half of the cameras of each scene."""
    chosen = {}
    for number, indices in enumerate(dataset.scene_indices().values()):
        frame = dataset.frame(indices[0], load_images=False)
        draw = np.random.default_rng((SEED, number))
        rows = draw.choice(frame.num_cameras, frame.num_cameras // 2, replace=False)
        chosen[frame.scene_token] = sorted(rows.tolist())
    return chosen


def damage_half(measure: Measure, chosen: Cameras) -> dict[str, Any]:
    """Score faults of the chosen cameras: masked, then without a mask by kind and strength."""

    def mask(_: int, frame: Frame) -> Frame:
        assert frame.camera_mask is not None  # Frame sets it
        camera_mask = frame.camera_mask.clone()
        camera_mask[chosen[frame.scene_token]] = False
        return replace(frame, camera_mask=camera_mask)

    def damage(kind: str, strength: float, index: int, frame: Frame) -> Frame:
        faults = [Fault(kind, camera, 0, 1, strength) for camera in chosen[frame.scene_token]]
        return FaultyDrive(faults, np.random.default_rng((SEED, index))).inject(frame)

    masked = measure(mask)
    found: dict[str, dict[str, Any]] = {}
    for kind, strengths in FAULTS.items():
        found[kind] = {}
        for strength in strengths:
            found[kind][f"{strength:g}"] = row = measure(partial(damage, kind, strength))
            show(f"{kind} {strength:g}", row, masked)
    return {"masked": masked, "not_masked": found}


def corrupt_all(measure: Measure) -> dict[str, Any]:
    """Score corruptions of all cameras, without masks and with those of every state."""
    rows: dict[str, dict[str, Any]] = {}
    for name in CORRUPTED:
        rows[name] = {}
        for level in LEVELS:
            states: Counter[str] = Counter()
            monitor = HealthMonitor(HealthConfig(mask_hints=True))
            corrupt = partial(_corrupt, name, level)
            bare, masked = measure(corrupt), measure(partial(_judge, corrupt, monitor, states))
            rows[name][level] = {"not_masked": bare, "masked": masked, "states": dict(states)}
            show(f"{name} {level}", bare, masked)
            print(f"{'':22}  states: {dict(states)}", flush=True)
    return rows


def _corrupt(name: str, level: str, _: int, frame: Frame) -> Frame:
    return corrupt_frame(frame, CORRUPTIONS[name], level)


def _judge(
    change: Change, monitor: HealthMonitor, states: Counter[str], index: int, frame: Frame
) -> Frame:
    judged = monitor.admit(change(index, frame))
    states.update(state.value for state in monitor.states.values())
    return judged


def measure_split(
    detector: FrameDetector, dataset: NuScenesDataset, change: Change
) -> dict[str, float]:
    """Score all frames after a change; they come scene by scene, in order of time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        predict_dataset(detector, ChangedFrames(dataset, change, full_size=True), path)
        metrics = score(load(path, dataset.tables, dataset.scene_names)).metrics
    return {"mAP": round(metrics.mean_average_precision, 4), "NDS": round(metrics.nds, 4)}


def show(name: str, bare: Mapping[str, float], masked: Mapping[str, float]) -> None:
    """Print one line of the table."""
    figures = [row[key] for row in (bare, masked) for key in ("mAP", "NDS")]
    print(f"{name:22}" + "".join(f"{figure:11.4f}" for figure in figures), flush=True)


__all__ = ["SUMMARY", "add_arguments", "run"]
