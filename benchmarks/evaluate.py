"""Benchmark of scoring against nuscenes-devkit 1.2, at the size of nuScenes' validation split.

    python -m benchmarks.run evaluate --json benchmarks/results/evaluate.json
    python -m benchmarks.run evaluate --scenes 5          # 1/30 of the data, takes a minute

The data is drawn at random: about 6,000 samples, 1.8 million predictions and 190,000 true boxes.
Each side runs in a process with one thread. It reads the same tables and results file and writes
metrics files, which must be equal to the last bit. Times are CPU times, so that they are valid on a
busy machine. The tables' file of columns exists, like from the second run on. The devkit takes
minutes and 5 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.validation_case import SPLIT, VERSION, draw_predictions, write_tables
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.evaluation.results.columns_file import write_columns
from bevstack.evaluation.results.result_boxes import result_entries
from bevstack.evaluation.results.submission import CAMERA_META, Submission, write_submission
from bevstack.tables.reader import Tables

SUMMARY = "the whole of nuScenes val scored by us and by nuscenes-devkit"
GOALS = {  # wanted ratios of the devkit's time, or memory, to ours
    "accumulate": 200,
    "filter and ego distance": 40,
    "from files": 25,
    "from arrays": 150,
    "peak memory": 3,
}
COLD_STARTS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: folder and size of the data."""
    parser.add_argument(
        "--folder", type=Path, help="keep the data in this folder (default: a temporary folder)"
    )
    parser.add_argument(
        "--scenes", type=int, help="number of scenes, of the 150 of val (default: all)"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the data if it is missing, run all sides, and return and print the comparison."""
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.folder or Path(temporary)).resolve()
        prepare(root, arguments.scenes)
        sides = {name: run_side(name, root) for name in ("columns", "arrays", "bevstack", "devkit")}
        result = {
            "samples": sides["arrays"].pop("counts"),
            "equal": same_files(root),
            "speedup": ratios(sides),
            "cold_start": cold_start(root),
            "sides": sides,
            **machine(),
        }
    for name, ratio in result["speedup"].items():
        print(f"{name:26}{ratio:8.1f}x   (goal {GOALS[name]}x)")
    print(f"equal to the last bit: {result['equal']}; cold start {result['cold_start']}")
    return result


def prepare(root: Path, scenes: int | None) -> None:
    """Write the tables and their file of columns, and the results as JSON and as columns."""
    if (root / "results.json").is_file():
        return
    write_tables(root, scenes)
    tables = Tables(root, VERSION, cache=True if scenes is None else None)
    boxes = draw_predictions(ground_truth(tables, samples_of_split(tables, SPLIT)))
    submission = Submission(CAMERA_META, boxes)
    write_columns(root / "results.safetensors", boxes, CAMERA_META)
    write_submission(root / "results.json", Entries(submission))
    (root / "maps").mkdir()
    (root / "maps" / "m.png").touch()  # the devkit requires the file, but does not read it


class Entries(Mapping[str, list[dict[str, object]]]):
    """Boxes of a submission as JSON entries, made one sample at a time."""

    def __init__(self, submission: Submission) -> None:
        self._submission = submission

    def __getitem__(self, token: str) -> list[dict[str, object]]:
        return result_entries(self._submission.select_sample(token), token)

    def __iter__(self) -> Iterator[str]:
        return iter(self._submission.sample_tokens)

    def __len__(self) -> int:
        return len(self._submission.sample_tokens)


def run_side(name: str, root: Path) -> dict[str, Any]:
    """Run one side in a separate process and return its figures."""
    print(f"{name} ...", flush=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.evaluate_sides", name, str(root)],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def ratios(sides: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the ratios of the devkit's time, or memory, to ours."""
    devkit, arrays = sides["devkit"]["cpu_s"], sides["arrays"]["cpu_s"]
    scoring = devkit["filter"] + devkit["accumulate"]
    ours = sides["bevstack"]
    exact = {
        "accumulate": devkit["accumulate"] / arrays["accumulate"],
        "filter and ego distance": devkit["filter"] / arrays["filter"],
        "from files": sum(devkit.values()) / ours["all_cpu_s"]["all"],
        "from arrays": scoring / arrays["evaluate"],
        "peak memory": sides["devkit"]["peak_gb"] / ours["peak_gb"],
    }
    return {name: round(ratio, 1) for name, ratio in exact.items()}


def same_files(root: Path) -> bool:
    """Return True if both sides wrote the same figures and curves, character by character."""
    details, summaries = [], []
    for side in ("bevstack", "devkit"):
        details.append((root / side / "metrics_details.json").read_bytes())
        summary = json.loads((root / side / "metrics_summary.json").read_text())
        summary.pop("eval_time")
        summaries.append(json.dumps(summary))
    return details[0] == details[1] and summaries[0] == summaries[1]


def cold_start(root: Path) -> dict[str, dict[str, float]]:
    """Time the command `bevstack evaluate` on two scenes, with and without numba's cache."""
    prepare(root / "two", 2)
    names = Tables(root / "two", VERSION).scenes.name.tolist()
    command = [sys.executable, "-m", "bevstack.cli.main", "evaluate", "--nuscenes"]
    command += [str(root / "two"), "--version", VERSION, "--out", str(root / "two")]
    command += ["--results", str(root / "two" / "results.json")]
    command += [word for name in names for word in ("--scene", name)]
    with tempfile.TemporaryDirectory() as empty:
        fresh = timed(command, {"NUMBA_CACHE_DIR": empty})
    kept = min((timed(command, {}) for _ in range(COLD_STARTS)), key=lambda times: times["wall_s"])
    return {"compiled cache there": kept, "first run ever": fresh}


def timed(command: list[str], extra: dict[str, str]) -> dict[str, float]:
    """Run a command and return its wall and CPU seconds."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**os.environ, **extra}, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(time.perf_counter() - start, 2), "cpu_s": round(cpu, 2)}


def machine() -> dict[str, str]:
    """Return the machine and the version of numpy."""
    return {"machine": platform.processor() or platform.machine(), "numpy": np.__version__}
