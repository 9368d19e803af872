"""Trains variants of a detector, each within the same processor time, and scores them.

python tools/study.py --config tiny_cpu_t4 --nuscenes ROOT --version V --split TRAIN \
    --held-out TEST --minutes 20 --out DIR
python tools/study.py ... --only seed_,no_memory     # some variants
python tools/study.py ... --weights MODEL.safetensors --only seed_,camera_dropout

Every variant begins with random weights, or with those of --weights, is trained by one process of
one thread, for as many steps as fill the budget of processor time, and scored on the same held-out
scenes, streamed from its model file. Finished variants are kept in DIR and not made again; a
training that was stopped goes on. So several calls with another --only each may share a machine.
DIR/study.json has all that is finished.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bevstack.config import Config, load_config
from bevstack.datasets.worker_process import settle_worker
from bevstack.experiments.judge.figures import figures_of, without_nan
from bevstack.experiments.judge.judge import (
    COLUMNS,
    digest_of,
    digest_of_tables,
    format_classes,
    format_rows,
    versions,
)
from bevstack.experiments.judge.shuffled_labels import ShuffledLabels
from bevstack.experiments.judge.splits import open_split
from bevstack.experiments.judge.turned_world import read_manifest
from bevstack.experiments.study.budget import Plan, plan_budget
from bevstack.experiments.study.variants import SEED, Variant, chosen, variants_of
from bevstack.files import write_text_atomically
from bevstack.runtime.detector import load
from bevstack.runtime.predict import predict_dataset
from bevstack.tables.reader import Tables
from bevstack.training import train
from bevstack.training.progress_bar import make_console, training_progress

FORMAT = "bevstack-study-1"
Finished = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, scores, prints and writes."""
    args = _parser().parse_args(argv)
    settle_worker(0)  # one thread, so that processor time is the time of the work
    config = load_config(args.config)
    tables = Tables(args.nuscenes, args.version)
    marks = {
        "config": config.name,
        "minutes": args.minutes,
        "data": read_manifest(tables.root).get("digest") or digest_of_tables(tables),
        "split": args.split,
        "held_out": args.held_out,
        "max_samples": args.max_samples,
        "begun_with": digest_of(args.weights) if args.weights else None,
    }
    for variant in chosen(variants_of(config, args.seeds), args.only):
        path = args.out / f"{variant.name}.json"
        if read_finished(path, marks) is None:
            found = finish(variant, tables, args)
            write_text_atomically(
                path, json.dumps(without_nan({"marks": marks, "found": found}), indent=1)
            )
    rows = {
        variant.name: found
        for variant in variants_of(config, args.seeds)
        if (found := read_finished(args.out / f"{variant.name}.json", marks)) is not None
    }
    content = {
        "format": FORMAT,
        "command": "python tools/study.py " + " ".join(sys.argv[1:] if argv is None else argv),
        "versions": {**versions(), "threads": torch.get_num_threads()},
        **marks,
        "variants": rows,
        "seeds": spread(rows),
    }
    write_text_atomically(args.out / "study.json", json.dumps(without_nan(content), indent=1))
    print(f"\n{format_rows(rows)}\n\n{format_classes(rows)}\n")
    for name, (mean, deviation) in content["seeds"].items():
        print(f"{name} of seeds: {mean:.4f} +- {deviation:.4f}")
    return 0


def finish(variant: Variant, tables: Tables, args: argparse.Namespace) -> Finished:
    """Trains and scores one variant; what was done of it before is not done again."""
    folder = args.out / variant.name
    samples = open_split(tables, args.split, variant.config)
    if variant.shuffled_labels:
        samples = ShuffledLabels(samples)
    plan = read_plan(folder / "plan.json") or plan_budget(
        variant.config, samples, 60 * args.minutes
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / "plan.json", json.dumps(plan.to_json()))
    config = planned(variant.config, plan)
    print(f"{variant.name}: {variant.about}; {plan.num_steps} steps", flush=True)
    used = add_time(folder / "cpu_seconds.json", 0.0)
    started = time.process_time()
    console = make_console()
    with training_progress(console, plan.num_steps, config.training.log_every) as report:
        result = train(
            config, samples, folder / "run", start=args.weights, resume=True, report=report
        )
    used = add_time(folder / "cpu_seconds.json", time.process_time() - started)
    held_out = open_split(tables, args.held_out, config, args.max_samples)
    results = folder / "results.json"
    predict_dataset(load(result.weights), held_out, results)
    return {
        "about": variant.about,
        "plan": plan.to_json(),
        "cpu_seconds": used,  # of training, as measured
        **figures_of(results, tables, held_out.scene_names),
    }


def planned(config: Config, plan: Plan) -> Config:
    """The configuration with the steps of a plan, every sample read by the training process."""
    recipe = replace(
        config.training,
        num_steps=plan.num_steps,
        perspective_steps=plan.perspective_steps,
        evaluate_every=0,
        num_workers=0,
    )
    return replace(config, training=recipe)


def read_plan(path: Path) -> Plan | None:
    """The plan that a training was begun with; none before."""
    if not path.is_file():
        return None
    return Plan(**json.loads(path.read_text(encoding="utf-8")))


def add_time(path: Path, seconds: float) -> float:
    """Processor time of all calls so far that ended by themselves."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else 0.0
    write_text_atomically(path, json.dumps(before + seconds))
    return float(before + seconds)


def read_finished(path: Path, marks: Mapping[str, Any]) -> Finished | None:
    """What is known of a variant; none where it is not finished.

    Raises:
        ValueError: it was made with another configuration, budget or data.
    """
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    differing = [name for name, value in marks.items() if content["marks"].get(name) != value]
    if differing:
        raise ValueError(
            f"{path} must be of this study; it differs in {', '.join(differing)}: "
            "give another --out, or remove it"
        )
    found: Finished = content["found"]
    return found


def spread(rows: Mapping[str, Finished]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of every column over the seeds, where there are two or more."""
    seeds = [row for name, row in rows.items() if name.startswith(SEED)]
    if len(seeds) < 2:
        return {}
    columns = {name: [row[name] for row in seeds] for name in COLUMNS}
    return {
        name: (statistics.fmean(values), statistics.stdev(values))
        for name, values in columns.items()
        if all(value is not None and math.isfinite(value) for value in values)
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="study.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="name of a configuration, or a file")
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True, help="folder of the tables")
    parser.add_argument("--split", required=True, help="scenes to train on")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="scenes to score on")
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="processor time of each (default: %(default)g)"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights of the configuration that every variant begins with (default: random ones)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--only",
        type=lambda text: [name for name in text.split(",") if name],
        default=[],
        metavar="NAME,...",
        help="these variants alone",
    )
    parser.add_argument(
        "--max-samples", type=int, metavar="N", help="score on whole scenes of so many samples"
    )
    parser.add_argument("--out", type=Path, default=Path("out/study"), metavar="DIR")
    return parser
