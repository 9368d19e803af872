"""Train variants of a detector, each within the same processor time, and score them.

Every variant starts with random weights, or with given ones, is trained by one process of one
thread for the number of steps that fills the budget of processor time, and is scored on the same
held-out scenes, streamed from its model file. Finished variants are kept and not made again; a
training that was stopped continues. ``<out>/study.json`` holds all finished variants.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bevstack.config import Config, load_config
from bevstack.datasets.worker_process import initialise_worker
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


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The configuration to vary, its data, and the budget of each variant."""

    config: str  # name of a packaged configuration, or a file
    nuscenes: Path  # root of the data set
    version: str  # folder of the tables
    split: str  # scenes to train on
    held_out: str  # scenes to score on
    minutes: float = 20.0  # processor time of each variant
    weights: Path | None = None  # that every variant starts with; none: random weights
    seeds: int = 3
    only: Sequence[str] = ()  # names of variants, or beginnings of names; empty: all variants
    max_samples: int | None = None  # score on whole scenes of at most this number of samples
    out: Path = Path("out/study")
    command: str = ""  # as typed, for study.json


def study(options: StudyOptions, echo: Callable[[str], None]) -> None:
    """Train and score the variants that are not finished, and write ``study.json``.

    Raises:
        ValueError: variants that do not exist, finished variants of another study in ``out``, or a
            budget that does not pay for one step of each stage.
        FileNotFoundError: no such configuration, weights, tables or split.
    """
    initialise_worker(0)  # one thread, so that processor time is the time of the work
    config = load_config(options.config)
    tables = Tables(options.nuscenes, options.version)
    marks = {
        "config": config.name,
        "minutes": options.minutes,
        "data": read_manifest(tables.root).get("digest") or digest_of_tables(tables),
        "split": options.split,
        "held_out": options.held_out,
        "max_samples": options.max_samples,
        "initial_weights": digest_of(options.weights) if options.weights else None,
    }
    for variant in chosen(variants_of(config, options.seeds), options.only):
        path = options.out / f"{variant.name}.json"
        if read_finished(path, marks) is None:
            found = finish(variant, tables, options, echo)
            write_text_atomically(
                path, json.dumps(without_nan({"marks": marks, "found": found}), indent=1)
            )
    rows = {
        variant.name: found
        for variant in variants_of(config, options.seeds)
        if (found := read_finished(options.out / f"{variant.name}.json", marks)) is not None
    }
    seeds = spread(rows)
    content = {
        "format": FORMAT,
        "command": options.command,
        "versions": {**versions(), "threads": torch.get_num_threads()},
        **marks,
        "variants": rows,
        "seeds": seeds,
    }
    write_text_atomically(options.out / "study.json", json.dumps(without_nan(content), indent=1))
    echo(f"\n{format_rows(rows)}\n\n{format_classes(rows)}\n")
    for name, (mean, deviation) in seeds.items():
        echo(f"{name} of seeds: {mean:.4f} +- {deviation:.4f}")


def finish(
    variant: Variant, tables: Tables, options: StudyOptions, echo: Callable[[str], None]
) -> Finished:
    """Trains and scores one variant; what was done of it before is not done again."""
    folder = options.out / variant.name
    samples = open_split(tables, options.split, variant.config)
    if variant.shuffled_labels:
        samples = ShuffledLabels(samples)
    plan = read_plan(folder / "plan.json") or plan_budget(
        variant.config, samples, 60 * options.minutes
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / "plan.json", json.dumps(plan.to_json()))
    config = planned(variant.config, plan)
    echo(f"{variant.name}: {variant.about}; {plan.num_steps} steps")
    used = add_time(folder / "cpu_seconds.json", 0.0)
    started = time.process_time()
    console = make_console()
    with training_progress(console, plan.num_steps, config.training.log_every) as report:
        result = train(
            config, samples, folder / "run", start=options.weights, resume=True, report=report
        )
    used = add_time(folder / "cpu_seconds.json", time.process_time() - started)
    held_out = open_split(tables, options.held_out, config, options.max_samples)
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
