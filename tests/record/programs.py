"""Record of the command ``bevstack``: exit codes, worlds and the demo."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bevstack.synthetic import PRESETS, WorldSpec
from bevstack.synthetic.reproducibility import fingerprint_scene

VERBS = (
    "demo",
    "train-demo",
    "make-world",
    "train",
    "evaluate",
    "predict",
    "show",
    "convert-weights",
    "doctor",
    "build-ops",
)
# Command lines, with DATA for the options of a small world and OUT for an empty folder.
CALLS = (
    "",
    "--version",
    "no-such-verb",
    *(f"{verb} --help" for verb in VERBS),
    *(f"{verb} --no-such-option" for verb in VERBS),
    "doctor",
    "doctor --config tiny_cpu",
    "doctor --config no_such",
    "demo --seed 0 --out OUT/demo",
    "demo --model no_such --out OUT/demo",
    "make-world OUT/world --train-scenes -1",
    "train --config tiny_cpu_t4 --nuscenes OUT/none --version v1.0-synth --split s --out OUT/run",
    "train --config tiny_cpu DATA --steps 4 --dry-run --split synth_val --out OUT/run",
    "train --config tiny_cpu DATA --split no_such --out OUT/run",
    "predict --out OUT/r.json",
    "predict --config tiny_cpu DATA --out OUT/r.json",
    "predict --config tiny_cpu DATA --scene no_such --out OUT/r.json",
    "predict --config tiny_cpu DATA --split synth_val --out OUT/results.json",
    "evaluate --results OUT/results.json DATA --split synth_val",
    "evaluate --results OUT/none.json DATA --split synth_val",
    "evaluate --results OUT/results.json DATA --split synth_test",
    "show --results OUT/results.json DATA --max 1 --out OUT/pictures",
    "show --results OUT/results.json --out OUT/pictures",
    "convert-weights OUT/none.pth --to OUT/w.safetensors --config tiny_cpu",
)
SMALL = WorldSpec(seed=7, train_scenes=1, val_scenes=1, test_scenes=1, samples_per_scene=2)
DEMO_FILES = ("results_nusc.json", "results_untracked.json")


def bevstack(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process with one thread; do not raise if it fails."""
    command = [sys.executable, "-m", "bevstack", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def checked_output(*arguments: str) -> str:
    """Run the command and return its standard output; raise RuntimeError if it fails."""
    done = bevstack(*arguments)
    if done.returncode:
        raise RuntimeError(f"bevstack {' '.join(arguments)} must work; got {done.stderr[-2000:]}")
    return done.stdout


def write_world(root: Path, spec: WorldSpec) -> None:
    """Write a small world with the command."""
    options = {
        "--seed": spec.seed,
        "--train-scenes": spec.train_scenes,
        "--val-scenes": spec.val_scenes,
        "--test-scenes": spec.test_scenes,
        "--samples-per-scene": spec.samples_per_scene,
    }
    arguments = [str(word) for pair in options.items() for word in pair]
    checked_output("make-world", str(root), *arguments)


def exit_codes(folder: Path) -> dict[str, Any]:
    """Return the exit code of every call."""
    root, out = folder / "world", folder / "out"
    out.mkdir()
    write_world(root, SMALL)
    codes = {}
    data = f"--nuscenes {root} --version v1.0-synth"
    for call in CALLS:
        codes[call] = bevstack(
            *call.replace("DATA", data).replace("OUT", str(out)).split()
        ).returncode
    return {"everywhere": codes}


def worlds(folder: Path) -> dict[str, Any]:
    """Return fingerprints of scenes, and the digest of every file of a small world."""
    specs = {**PRESETS, "small test": SMALL}
    everywhere = {}
    for name, spec in specs.items():
        for scenes in spec.split_scenes.values():
            found = fingerprint_scene(spec, scenes[0])
            everywhere[f"{name} {scenes[0]}"] = found.tables
    root = folder / "world"
    write_world(root, SMALL)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    digests = {path.relative_to(root).as_posix(): digest_of(path) for path in files}
    return {"everywhere": everywhere, "on_this_machine": digests}


def demo(folder: Path) -> dict[str, Any]:
    """Return digests of the demo's files, and its scores."""
    out = folder / "demo"
    checked_output("demo", "--out", str(out))
    metrics = json.loads((out / "metrics_summary.json").read_text(encoding="utf-8"))
    metrics.pop("eval_time", None)
    digests = {name: digest_of(out / name) for name in DEMO_FILES}
    digests["metrics_summary.json"] = hashlib.sha256(
        json.dumps(metrics, sort_keys=True).encode()
    ).hexdigest()
    digests["files"] = sorted(
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path.is_file() and not path.is_relative_to(out / "world_24_30")
    )
    figures = {"NDS": metrics["nd_score"], "mAP": metrics["mean_ap"]}
    return {"everywhere": {}, "on_this_machine": digests, "figures": figures}


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
