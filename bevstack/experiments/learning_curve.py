"""Scores checkpoints of one training on held-out scenes: NDS over the processor time they took.

Example:
    python bevstack/experiments/learning_curve.py out/run/checkpoint_*.safetensors --processes 2 \
        --nuscenes data/synthetic --version v1.0-synth --held-out synth_test --out out/curve

Processor time is that of the steps as the run measured it, times its processes of one thread each.
A run keeps its newest checkpoints alone: copy those that matter while it goes on. What is finished
lies in OUT and is not done again; curve.json has all of it, curve.png draws it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bevstack.datasets.worker_process import settle_worker
from bevstack.experiments.judge.figures import figures_of, without_nan
from bevstack.experiments.judge.judge import digest_of, versions
from bevstack.experiments.judge.splits import open_split
from bevstack.files import write_text_atomically
from bevstack.render.files import write_picture
from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
from bevstack.runtime.detector import load
from bevstack.runtime.predict import predict_dataset
from bevstack.tables.reader import Tables
from bevstack.training.checkpoint import weights_of
from bevstack.training.validation import write_weights

FORMAT = "bevstack-learning-curve-1"
Point = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Scores, prints, writes and draws."""
    args = _parser().parse_args(arguments)
    settle_worker(0)
    tables = Tables(args.nuscenes, args.version)
    args.out.mkdir(parents=True, exist_ok=True)
    points = [score(path, tables, args) for path in sorted(args.checkpoints)]
    points.sort(key=lambda point: point["cpu_seconds"])
    content = {"format": FORMAT, "versions": versions(), "points": points}
    write_text_atomically(args.out / "curve.json", json.dumps(without_nan(content), indent=1))
    minutes = [point["cpu_seconds"] / 60 for point in points]
    curves = {name: [point[name] for point in points] for name in ("NDS", "mAP")}
    style = CurveStyle(
        title=f"{args.held_out}: {points[0]['samples']} samples",
        x_label="minutes of processor time",
        y_label="score",
        smoothing=1,
    )
    write_picture(args.out / "curve.png", draw_learning_curve(minutes, curves, style).pixels)
    return 0


def score(checkpoint: Path, tables: Tables, args: argparse.Namespace) -> Point:
    """The point of one checkpoint, made now or before."""
    path = args.out / f"{checkpoint.stem}.json"
    digest = digest_of(checkpoint)
    if path.is_file():
        found: Point = json.loads(path.read_text(encoding="utf-8"))
        if found["sha256"] == digest:
            return found
    weights, config, position = weights_of(checkpoint)
    model = args.out / "model.safetensors"
    write_weights(model, weights, config, steps=position.steps_done)
    dataset = open_split(tables, args.held_out, config, args.max_samples)
    results = args.out / f"{checkpoint.stem}.results.json"
    predict_dataset(load(model), dataset, results)
    figures = figures_of(results, tables, dataset.scene_names)
    point = without_nan(
        {
            "steps": position.steps_done,
            "cpu_seconds": position.elapsed_s * args.processes,
            "samples": len(dataset),
            "sha256": digest,
            **{name: value for name, value in figures.items() if name != "groups"},
        }
    )
    write_text_atomically(path, json.dumps(point, indent=1))
    results.unlink()
    model.unlink()
    scores = f"NDS {point['NDS']:.4f}  mAP {point['mAP']:.4f}"
    minutes = point["cpu_seconds"] / 60
    print(f"{position.steps_done:7} steps {minutes:6.1f} min  {scores}", flush=True)
    return point


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    parser.add_argument(
        "--processes", type=int, required=True, help="that trained, one thread each"
    )
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True, help="folder of the tables")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="scenes to score on")
    parser.add_argument(
        "--max-samples", type=int, metavar="N", help="score on whole scenes of so many samples"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
