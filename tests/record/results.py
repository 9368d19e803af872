"""Record of the packaged weights' predictions and of a short training, with and without a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import bevstack
from bevstack.datasets.clips import load_clip
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.synthetic import WorldSpec
from bevstack.types import Detections
from tests.record.programs import checked_output, digest_of, write_world

SPEC = WorldSpec(seed=11, train_scenes=2, val_scenes=0, test_scenes=2, samples_per_scene=5)
DATA = ("--version", "v1.0-synth")
MODES = {
    "streamed": (),
    "tracked": ("--track",),
    "mirrored": ("--mirror",),
    "mirrored and tracked": ("--mirror", "--track"),
}
NUM_STEPS = 20
KILLED_AFTER = 9  # steps; the last checkpoint is then of step 5
# Both stages and the augmentation of the recipe of the packaged weights.
RECIPE = """
from dataclasses import replace
from bevstack.configs.tiny_cpu_t4 import CONFIG as T4
SHORT = replace(T4.training.with_num_steps(20), checkpoint_every=5, log_every=1, evaluate_every=0,
    num_workers=0)
CONFIG = replace(T4, training=SHORT)
"""
TIMES = {"data_s", "step_s", "elapsed_s", "memory_bytes"}
WAIT_S = 600


def predictions(folder: Path) -> dict[str, Any]:
    """Return digests of the boxes and scores of two test scenes, predicted in five modes."""
    root = folder / "world"
    write_world(root, SPEC)
    exact, figures = {}, {}
    for mode, options in MODES.items():
        out = folder / f"{mode}.json"
        given = (*DATA, "--split", "synth_test", "--out", str(out), *options)
        checked_output("predict", "--weights", "tiny_cpu_t4", "--nuscenes", str(root), *given)
        given = (*DATA, "--split", "synth_test", "--results", str(out), "--json")
        given += ("--out", str(folder / mode))
        scored = json.loads(checked_output("evaluate", "--nuscenes", str(root), *given))
        for key in ("eval_time", "scored"):  # the seconds taken, and the results file's name
            scored.pop(key, None)
        exact[mode] = {"results": digest_of(out), "metrics": _digest(scored)}
        figures[mode] = scored["nd_score"]
    exact["clip-wise"], figures["clip-wise"] = _clip_wise(root)
    return {"everywhere": {}, "on_this_machine": exact, "figures": figures}


def _clip_wise(root: Path) -> tuple[str, float]:
    """Return the digest of the boxes in the last sample of each scene, and their mean score."""
    detector = bevstack.load("tiny_cpu_t4")
    dataset = NuScenesDataset(
        root,
        "v1.0-synth",
        split="synth_test",
        bev_frame=detector.config.grid.frame,
        class_names=detector.class_names,
    )
    predicted = [
        detector.predict_clip(load_clip(dataset, indices[-1], detector.config.frames))
        for indices in dataset.scene_indices().values()
    ]
    scores = np.concatenate([detections.scores.numpy() for detections in predicted])
    return _digest([_rows(detections) for detections in predicted]), float(scores.mean())


def _rows(detections: Detections) -> list[list[float]]:
    boxes = detections.boxes
    columns = [boxes.center, boxes.size, boxes.yaw[:, None], boxes.velocity]
    columns += [detections.scores[:, None], detections.labels[:, None]]
    return [[float(v) for column in columns for v in column[i]] for i in range(len(detections))]


def training(folder: Path) -> dict[str, Any]:
    """Return digests of 20 training steps, uninterrupted and killed in between and resumed."""
    root, recipe = folder / "world", folder / "recipe.py"
    write_world(root, SPEC)
    recipe.write_text(RECIPE, encoding="utf-8")
    command = ("train", "--config", str(recipe), "--nuscenes", str(root), *DATA)
    command = (*command, "--split", "synth_train", "--out")
    checked_output(*command, str(folder / "whole"))
    _kill_midway(command, folder / "killed")
    checked_output(*command, str(folder / "killed"), "--resume")
    whole, killed = (_training_digests(folder / name) for name in ("whole", "killed"))
    last = _log(folder / "whole")[-1]["loss"]
    exact = dataclasses.asdict(whole)
    return {
        "everywhere": {"killed run equals the other": whole == killed},
        "on_this_machine": exact,
        "figures": {"last loss": last},
    }


@dataclasses.dataclass(frozen=True)
class TrainingDigests:
    """Digests of the files of a training."""

    weights: str
    log: str
    files: tuple[str, ...]


def _training_digests(out: Path) -> TrainingDigests:
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(out / "model.safetensors").items()):
        digest.update(name.encode() + tensor.tobytes())
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in _log(out)]
    names = tuple(sorted(path.name for path in out.iterdir()))
    return TrainingDigests(digest.hexdigest(), _digest(lines), names)


def _log(out: Path) -> list[dict[str, float]]:
    text = (out / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _kill_midway(arguments: tuple[str, ...], out: Path) -> None:
    """Start a training and kill it with SIGKILL after ``KILLED_AFTER`` lines of its log."""
    command = [sys.executable, "-m", "bevstack", *arguments, str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log, until = out / "log.jsonl", time.monotonic() + WAIT_S
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        while not log.is_file() or log.read_text(encoding="utf-8").count("\n") < KILLED_AFTER:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise RuntimeError(f"the training must reach step {KILLED_AFTER}; it ended earlier")
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
