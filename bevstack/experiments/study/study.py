"""Study of a detector's variants, each trained within the same processor time and scored.

Every variant starts with random weights, or with given ones. One process of one thread trains it
for the number of steps that fills the budget of processor time. It is scored on the same held-out
scenes, streamed from its model file. Finished variants are kept and not made again; a training that
was stopped resumes. ``<out>/study.json`` holds all finished variants.
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
from bevstack.experiments.finished import read_finished_file
from bevstack.experiments.judge.figures import compute_figures, without_nan
from bevstack.experiments.judge.judge import (
    COLUMNS,
    EchoTable,
    align,
    hash_file,
    hash_tables,
    list_classes,
    list_figures,
    versions,
)
from bevstack.experiments.judge.shuffled_labels import ShuffledLabels
from bevstack.experiments.judge.splits import open_split
from bevstack.experiments.judge.turned_world import read_manifest
from bevstack.experiments.study.budget import Plan, plan_budget
from bevstack.experiments.study.variants import SEED, Variant, list_variants, select_variants
from bevstack.files import write_text_atomically
from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_number,
    expect_object,
    read_json,
)
from bevstack.runtime.loading import load
from bevstack.runtime.predict import predict_dataset
from bevstack.tables.reader import Tables
from bevstack.tasks.detection3d import Detection3D
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
    overrides: Sequence[str] = ()  # changed fields of the configuration, such as "name=mine"
    minutes: float = 20.0  # processor time of each variant
    weights: Path | None = None  # initial weights of every variant; None: random weights
    verify: bool = True  # compare weights with their checksums
    allow_outside: bool = False  # the tables may name images outside of the root
    classes: Path | None = None  # classes of categories that are not nuScenes'
    seeds: int = 3
    only: Sequence[str] = ()  # names of variants or beginnings of names; empty: all variants
    max_samples: int | None = None  # score on whole scenes of at most this number of samples
    out: Path = Path("out/study")
    command: str = ""  # the user's command line, for study.json


def study(
    options: StudyOptions, echo: Callable[[str], None], echo_table: EchoTable | None = None
) -> None:
    """Train and score the variants that are not finished, and write ``study.json``.

    Without ``echo_table``, tables are shown as aligned text.

    Raises:
        ValueError: a selected variant does not exist, ``out`` holds finished variants of another
            study, or the budget is too small for one step of each stage.
        FileNotFoundError: the configuration, weights, tables or split do not exist.
    """
    initialise_worker(0)  # one thread, so that processor time measures the work
    config = load_config(options.config, options.overrides)
    tables = Tables(
        options.nuscenes,
        options.version,
        allow_outside=options.allow_outside,
        classes=options.classes,
    )
    inputs = {
        "config": config.name,
        "overrides": sorted(options.overrides) or None,
        "minutes": options.minutes,
        "data": read_manifest(tables.root).get("digest") or hash_tables(tables),
        "split": options.split,
        "held_out": options.held_out,
        "max_samples": options.max_samples,
        "initial_weights": hash_file(options.weights) if options.weights else None,
        "classes": dict(tables.given_classes or {}) or None,
    }
    for variant in select_variants(list_variants(config, options.seeds), options.only):
        path = options.out / f"{variant.name}.json"
        if read_finished(path, inputs) is None:
            figures = finish(variant, tables, options, echo)
            write_text_atomically(
                path, json.dumps(without_nan({"marks": inputs, "found": figures}), indent=1)
            )
    rows = {
        variant.name: finished
        for variant in list_variants(config, options.seeds)
        if (finished := read_finished(options.out / f"{variant.name}.json", inputs)) is not None
    }
    seeds = seed_statistics(rows)
    content = {
        "format": FORMAT,
        "command": options.command,
        "versions": {**versions(), "threads": torch.get_num_threads()},
        **inputs,
        "variants": rows,
        "seeds": seeds,
    }
    write_text_atomically(options.out / "study.json", json.dumps(without_nan(content), indent=1))
    for lines in (list_figures(rows), list_classes(rows)):
        echo("")
        (echo_table or (lambda table: echo(align(table))))(lines)
    echo("")
    for name, (mean, deviation) in seeds.items():
        echo(f"{name} over the seeds: {mean:.4f} +- {deviation:.4f}")


def finish(
    variant: Variant, tables: Tables, options: StudyOptions, echo: Callable[[str], None]
) -> Finished:
    """Train and score one variant; a training that was stopped resumes."""
    folder = options.out / variant.name
    samples = open_split(tables, options.split, variant.config)
    if variant.shuffled_labels:
        samples = ShuffledLabels(samples)
    plan = read_plan(folder / "plan.json") or plan_budget(
        variant.config, samples, 60 * options.minutes
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / "plan.json", json.dumps(plan.to_json()))
    config = apply_plan(variant.config, plan)
    echo(f"{variant.name}: {variant.about}; {plan.num_steps} steps")
    cpu_seconds = add_time(folder / "cpu_seconds.json", 0.0)
    started = time.process_time()
    console = make_console()
    with training_progress(console, plan.num_steps, config.training.log_every) as report:
        task = Detection3D(config, samples)
        result = train(
            task,
            folder / "run",
            start=options.weights,
            resume=True,
            verify=options.verify,
            report=report,
        )
    cpu_seconds = add_time(folder / "cpu_seconds.json", time.process_time() - started)
    held_out = open_split(tables, options.held_out, config, options.max_samples)
    results = folder / "results.json"
    predict_dataset(load(result.weights), held_out, results)
    return {
        "about": variant.about,
        "plan": plan.to_json(),
        "cpu_seconds": cpu_seconds,  # measured, of training alone
        **compute_figures(results, tables, held_out.scene_names),
    }


def apply_plan(config: Config, plan: Plan) -> Config:
    """Return the configuration with the steps of a plan; no worker processes read samples."""
    recipe = replace(
        config.training,
        num_steps=plan.num_steps,
        perspective_steps=plan.perspective_steps,
        evaluate_every=0,
        num_workers=0,
    )
    return replace(config, training=recipe)


def read_plan(path: Path) -> Plan | None:
    """Read the plan that a training was started with; None if there is none."""
    if not path.is_file():
        return None
    where = f"plan {path}"
    values = expect_object(where, read_json(path, "plan of a training"))
    counts, times = ("perspective_steps", "num_steps"), ("perspective_step_s", "step_s")
    for name in (*counts, *times):
        expect_number(f"{name} of the {where}", expect_field(where, values, name))
    return Plan(
        *(expect_integer(f"{name} of the {where}", values[name], low=0) for name in counts),
        *(float(values[name]) for name in times),
    )


def add_time(path: Path, seconds: float) -> float:
    """Add to the stored processor time, and return the total of all calls that ended normally."""
    before = 0.0
    if path.is_file():
        before = expect_number(f"seconds in {path}", read_json(path, "processor time"))
    write_text_atomically(path, json.dumps(before + seconds))
    return float(before + seconds)


def read_finished(path: Path, inputs: Mapping[str, Any]) -> Finished | None:
    """Read the figures of a variant; None if it is not finished.

    Raises:
        ValueError: the file is damaged, or belongs to another configuration, budget or data.
    """
    if not path.is_file():
        return None
    marks, figures = read_finished_file(path, "found", COLUMNS)
    differing = [name for name, value in inputs.items() if marks.get(name) != value]
    if differing:
        raise ValueError(
            f"{path} must be of this study; got differences in {', '.join(differing)}: "
            "use another --out, or remove the file"
        )
    return figures


def seed_statistics(rows: Mapping[str, Finished]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of every column over the seeds.

    The result is empty for fewer than two seeds.
    """
    seeds = [row for name, row in rows.items() if name.startswith(SEED)]
    if len(seeds) < 2:
        return {}
    columns = {name: [row[name] for row in seeds] for name in COLUMNS}
    return {
        name: (statistics.fmean(values), statistics.stdev(values))
        for name, values in columns.items()
        if all(value is not None and math.isfinite(value) for value in values)
    }
