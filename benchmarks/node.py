"""Benchmark of the node: time to the first result, and its overhead beside the model's own time.

    bevstack make-bag --nuscenes ROOT --scene S --out drive.mcap
    python -m benchmarks.run node --bag drive.mcap --json node.json

`bevstack node` plays the bag in a process of its own. "start" is from the start of the process to
the first result. Latencies are those that the node publishes with every result: "overhead" is all
of a step but the model, decoding, tracking and making messages; "waiting" is from the stamp to the
start of the step, most of it the wait for the cameras of the window and for the vehicle's pose.
The first result is left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import load, machine
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import open_store

SUMMARY = "time to the first result of the node, and its overhead beside the model"
GOAL = {"start_s": 10.0, "step_by_model_p99": 1.5}
_FIRST_LINE = "first result"
_LATENCY = "/latency/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: the bag, the weights and parameters of the node."""
    parser.add_argument("--bag", type=Path, required=True, help="bag of a drive")
    parser.add_argument("--weights", default="tiny_cpu_t4", help="weights (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the pace (default: 1)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="parameter of the node"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the node on the bag, and return and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.mcap"
        start_s, printed = play(arguments, path)
        latencies = read_latencies(path)
    found = figures(latencies, rate=arguments.rate)
    print(f"start to first result {start_s:.1f} s; {printed}")
    for name, row in found["latency_ms"].items():
        print(f"{name:10}p50 {row['p50']:8.1f} ms   p99 {row['p99']:8.1f} ms")
    print(f"step by model: p99 {found['step_by_model_p99']:.2f} (goal {GOAL['step_by_model_p99']})")
    return {
        "command": f"python -m benchmarks.run node --bag BAG --weights {arguments.weights} "
        f"--rate {arguments.rate:g}",
        "machine": machine(),
        "load": load(),
        "goal": GOAL,
        "start_s": start_s,
        "node": printed,
        **found,
    }


def play(arguments: argparse.Namespace, out: Path) -> tuple[float, str]:
    """Run the node; return the time to its first result and its line of numbers.

    Raises:
        ValueError: the node failed, or gave no result.
    """
    command = [sys.executable, "-m", "bevstack", "node", "--bag", str(arguments.bag)]
    command += ["--weights", str(arguments.weights), "--rate", str(arguments.rate)]
    for setting in arguments.set:
        command += ["--set", setting]
    start_s, lines = None, []
    started = time.monotonic()
    with subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None  # a pipe was asked for
        for line in process.stdout:
            if start_s is None and line.startswith(_FIRST_LINE):
                start_s = time.monotonic() - started
            lines.append(line.strip())
    numbers = next((line for line in lines if " windows, " in line), "")
    if process.returncode or start_s is None:
        raise ValueError(f"the node must give a result; got {numbers or 'none'} of {arguments.bag}")
    return start_s, numbers.partition(";")[0]


def read_latencies(path: Path) -> dict[str, list[float]]:
    """Return the published milliseconds by name."""
    found: dict[str, list[float]] = defaultdict(list)
    with BagReader(path, open_store()) as bag:
        topics = [topic for topic in bag.topics if _LATENCY in topic]
        for raw in bag.messages(topics):
            name = raw.topic.partition(_LATENCY)[2].removesuffix("_ms")
            found[name].append(float(bag.decode(raw).data))
    return found


def figures(latencies: Mapping[str, list[float]], *, rate: float = 1.0) -> dict[str, Any]:
    """Return percentiles of the published times, of overhead and of waiting.

    The age of the input is in the bag's time, which passes ``rate`` times as fast as ours.

    Raises:
        ValueError: there are fewer than two results.
    """
    count = len(latencies.get("total", ()))
    if count < 2:
        raise ValueError(f"results must be two or more; got {count}: play a longer bag")
    rows = {name: np.array(values)[-(count - 1) :] for name, values in latencies.items()}
    steps = rows["total"] + rows["messages"]
    rows["overhead"] = steps - rows["model"]
    rows["input_age"] = (rows["input_age"] - rows["messages"]) / rate + rows["messages"]
    rows["waiting"] = rows["input_age"] - steps
    return {
        "results": count - 1,
        "latency_ms": {
            name: {"p50": float(np.median(row)), "p99": float(np.percentile(row, 99))}
            for name, row in rows.items()
        },
        "step_by_model_p99": float(np.percentile(steps, 99) / np.percentile(rows["model"], 99)),
    }
