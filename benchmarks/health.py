"""Benchmark of camera health: false alarms on clean drives, detection of injected faults, cost.

    python -m benchmarks.run health --json benchmarks/results/health.json
    python -m benchmarks.run health --scenes 180 --pictures DIR  # six camera-hours; keeps pictures

Drives are rendered in the synthetic world, scenes of its test split with colours and sizes that no
threshold was chosen on. A false alarm is the beginning of a state that is not OK on a clean drive.
A fault is detected if the state of its camera names it within the limit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import beta, chi2

from benchmarks.health_drives import Drive, open_drive
from benchmarks.health_faults import FAULTS, Fault, Trial
from benchmarks.timing import load, machine
from bevstack.runtime.health import HealthMonitor
from bevstack.runtime.loading import load as load_detector
from bevstack.runtime.stream_protocol import ignore_health
from bevstack.synthetic.spec import WorldSpec
from bevstack.types.health import CameraState

SUMMARY = "false alarms and detection rates of camera health, and its cost"
SPLIT = "test"
WORLD_SCENES = 180  # six camera-hours; fewer are the first of them
MIN_SPEED_MPS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: size of the world, trials, folder of the pictures."""
    parser.add_argument("--scenes", type=int, default=6, help="drives, 1 to 180 (default 6)")
    parser.add_argument("--first", type=int, default=1, help="number of the first (default 1)")
    parser.add_argument("--samples", type=int, default=41, help="key frames of each (default 41)")
    parser.add_argument("--seed", type=int, default=21, help="seed of the world (default 21)")
    parser.add_argument(
        "--image-size", type=int, nargs=2, default=(144, 256), metavar=("H", "W"), help="pixels"
    )
    parser.add_argument(
        "--trials", type=int, default=1, help="of each fault in each drive (default 1)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="that share the drives (default 1)"
    )
    parser.add_argument("--pictures", type=Path, help="folder that keeps the rendered drives")
    parser.add_argument("--weights", default="tiny_cpu_t4", help="detector of the cost")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all drives, then the cost on the first.

    Raises:
        ValueError: a drive is not one of 1 to 180.
    """
    if not 1 <= arguments.first <= arguments.first + arguments.scenes - 1 <= WORLD_SCENES:
        raise ValueError(
            f"--first and --scenes must choose drives from 1 to {WORLD_SCENES}; got "
            f"{arguments.scenes} from {arguments.first}"
        )
    torch.set_num_threads(1)
    spec = WorldSpec(
        seed=arguments.seed,
        train_scenes=0,
        val_scenes=0,
        test_scenes=WORLD_SCENES,
        samples_per_scene=arguments.samples,
        image_size=tuple(arguments.image_size),
    )
    alarms, trials = Alarms(), Detections()
    measure = partial(measure_drive, spec, arguments.pictures, arguments.trials)
    numbers = range(arguments.first - 1, arguments.first - 1 + arguments.scenes)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for description, own, found in pool.imap(measure, numbers):
            alarms.merge(own)
            trials.merge(found)
            print(f"{description}: {alarms.summary()}", *own.where, sep="\n  ", flush=True)
    first = open_drive(spec, SPLIT, spec.split_scenes[SPLIT][numbers[0]], arguments.pictures)
    result = {
        "machine": machine(),
        "load": load(),
        "seed": spec.seed,
        "split": SPLIT,
        "first": arguments.first,
        "scenes": arguments.scenes,
        "image_size": list(spec.image_size),
        "false_alarms": alarms.report(),
        "detection": trials.report(),
        "cost": cost(first, arguments.weights),
    }
    show(result)
    return result


def measure_drive(
    spec: WorldSpec, pictures: Path | None, trials: int, number: int
) -> tuple[str, Alarms, Detections]:
    """Measure one drive of the split: its name and kind, alarms and detections."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    drive = open_drive(spec, SPLIT, spec.split_scenes[SPLIT][number], pictures)
    alarms, detections = Alarms(), Detections()
    alarms.add(drive)
    for name, fault in FAULTS.items():
        for trial in range(trials):
            detections.add(name, fault, drive, np.random.default_rng((number, trial)))
    return f"{drive.name}  {drive.description}", alarms, detections


class Alarms:
    """Counts of false alarms on clean drives."""

    def __init__(self) -> None:
        self.camera_s = 0.0
        self.counts: Counter[CameraState] = Counter()
        self.where: list[str] = []

    def add(self, drive: Drive) -> None:
        """Judge a clean drive from its start to its end."""
        monitor = HealthMonitor()
        before: Mapping[str, CameraState] = {}
        for index in range(len(drive)):
            monitor.admit(drive.frame(index))
            for name, state in monitor.states.items():
                if state not in (CameraState.OK, before.get(name)):
                    self.counts[state] += 1
                    self.where.append(f"{drive.name} {name} frame {index}: {state.value}")
            before = monitor.states
        seconds = 1e-6 * float(drive.time_us[-1] - drive.time_us[0])
        self.camera_s += seconds * len(drive.camera_names)

    def merge(self, further: Alarms) -> None:
        """Add the counts of further drives."""
        self.camera_s += further.camera_s
        self.counts += further.counts
        self.where += further.where

    def summary(self) -> str:
        """Return the number of alarms so far."""
        return f"{self.counts.total()} false alarms in {self.camera_s / 3600:.2f} camera-hours"

    def report(self) -> dict[str, Any]:
        """Return counts and rates with exact intervals of 95 % (Poisson)."""
        hours = self.camera_s / 3600
        rows = {}
        for state in CameraState:
            if state is not CameraState.OK:
                low, high = poisson_interval(self.counts[state])
                rows[state.value] = {
                    "alarms": self.counts[state],
                    "per_camera_hour": round(self.counts[state] / hours, 3),
                    "interval": [round(low / hours, 3), round(high / hours, 3)],
                }
        return {"camera_hours": round(hours, 3), "states": rows, "where": self.where}


class Detections:
    """Counts of detected faults."""

    def __init__(self) -> None:
        self.trials: Counter[str] = Counter()
        self.named: Counter[str] = Counter()
        self.alarmed: Counter[str] = Counter()  # by any state that is not OK
        self.delays_s: dict[str, list[float]] = {}

    def add(self, name: str, fault: Fault, drive: Drive, draw: np.random.Generator) -> None:
        """Run one trial with a camera, a time and a strength drawn at random."""
        starts = [i for i in range(1, len(drive) - 2, 2) if self._drives_on(drive, i, fault)]
        if not starts:
            return
        count = len(drive.camera_names)
        camera, other = (int(row) for row in draw.choice(count, 2, replace=False))
        strength = float(draw.uniform(*fault.strengths)) * float(
            draw.choice((-1.0, 1.0)) if name.startswith("turned") else 1.0
        )
        trial = Trial(
            drive=drive,
            camera=camera,
            other=other if fault.swaps else -1,
            start=int(draw.choice(starts)),
            draw=draw,
            strength=strength,
        )
        self._count(name, fault, trial)

    def merge(self, further: Detections) -> None:
        """Add the counts of further drives."""
        self.trials += further.trials
        self.named += further.named
        self.alarmed += further.alarmed
        for name, delays_s in further.delays_s.items():
            self.delays_s.setdefault(name, []).extend(delays_s)

    @staticmethod
    def _drives_on(drive: Drive, start: int, fault: Fault) -> bool:
        """Return True if the vehicle drives fast enough for the time that the fault needs."""
        end_us = drive.time_us[start] + 1e6 * (fault.limit_s + 1.0)
        span = (drive.time_us >= drive.time_us[start]) & (drive.time_us <= end_us)
        is_long = bool(drive.time_us[-1] >= end_us)
        return is_long and bool((drive.speed_mps[span] > MIN_SPEED_MPS).all())

    def _count(self, name: str, fault: Fault, trial: Trial) -> None:
        monitor = HealthMonitor()
        label = trial.drive.camera_names[trial.camera]
        begin_us, alarmed = 0, False
        self.trials[name] += 1
        for frame, is_faulty in fault.frames(trial):
            monitor.admit(frame)
            if not is_faulty:
                continue
            begin_us = begin_us or frame.timestamp_us
            delay_s = 1e-6 * (frame.timestamp_us - begin_us)
            if delay_s > fault.limit_s:
                break
            state = monitor.states[label]
            alarmed = alarmed or state is not CameraState.OK
            if state in fault.states:
                self.named[name] += 1
                self.delays_s.setdefault(name, []).append(delay_s)
                break
        self.alarmed[name] += alarmed

    def report(self) -> dict[str, Any]:
        """Return counts and rates with exact intervals of 95 % (Clopper and Pearson)."""
        rows = {}
        for name, fault in FAULTS.items():
            number, found = self.trials[name], self.named[name]
            if not number:
                continue
            low, high = binomial_interval(found, number)
            rows[name] = {
                "trials": number,
                "detected": found,
                "rate": round(found / number, 3),
                "interval": [round(low, 3), round(high, 3)],
                "any_alarm": self.alarmed[name],
                "limit_s": fault.limit_s,
                "median_delay_s": round(float(np.median(self.delays_s.get(name, [0.0]))), 2),
            }
        return rows


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of the mean of a Poisson count."""
    tail = (1 - level) / 2
    low = chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    return float(low), float(chi2.ppf(1 - tail, 2 * count + 2) / 2)


def binomial_interval(hits: int, number: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson)."""
    tail = (1 - level) / 2
    low = beta.ppf(tail, hits, number - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, number - hits) if hits < number else 1.0
    return float(low), float(high)


def cost(drive: Drive, weights: str) -> dict[str, Any]:
    """Measure the processor time of health beside that of a whole step of a detector."""
    detector = load_detector(weights)
    stream, monitor = ignore_health(detector.stream()), HealthMonitor()
    health_ms, step_ms = [], []
    for index in range(min(len(drive), 24)):
        frame = drive.frame(index)
        begin = time.process_time()
        monitor.admit(frame)
        health_ms.append(1e3 * (time.process_time() - begin))
        begin = time.process_time()
        stream.step(frame)
        step_ms.append(1e3 * (time.process_time() - begin))
    health, step = (float(np.mean(times[4:])) for times in (health_ms, step_ms))
    return {
        "weights": weights,
        "health_ms": round(health, 2),
        "step_ms": round(step, 1),
        "share": round(health / (health + step), 4),
    }


def show(result: Mapping[str, Any]) -> None:
    """Print the figures as tables."""
    alarms = result["false_alarms"]
    print(f"false alarms in {alarms['camera_hours']} camera-hours:")
    for name, row in alarms["states"].items():
        print(
            f"  {name:14s} {row['alarms']:4d}  {row['per_camera_hour']:.2f} an hour, at most "
            f"{row['interval'][1]:.2f}"
        )
    print("detection:")
    for name, row in result["detection"].items():
        low, high = row["interval"]
        print(
            f"  {name:14s} {row['detected']:4d} of {row['trials']:4d}: {row['rate']:.3f} "
            f"({low:.3f} to {high:.3f}) within {row['limit_s']:g} s"
        )
    print(f"cost: {result['cost']['health_ms']} ms beside {result['cost']['step_ms']} ms a frame")


__all__ = ["SUMMARY", "add_arguments", "run"]
