"""Learning curve of one training: NDS of its checkpoints over processor time.

Processor time is the measured time of the steps, multiplied by the number of processes, which have
one thread each. Finished points are kept in ``out`` and not made again. ``curve.json`` holds all
points, and ``curve.png`` plots them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevstack.config import config_from_json
from bevstack.datasets.worker_process import initialise_worker
from bevstack.experiments.judge.figures import compute_figures, without_nan
from bevstack.experiments.judge.judge import hash_file, versions
from bevstack.experiments.judge.splits import open_split
from bevstack.files import write_text_atomically
from bevstack.json_files import expect_field, expect_number, expect_object, read_json
from bevstack.models.build import save_weights
from bevstack.render.files import write_picture
from bevstack.render.learning_curve import CurveStyle, draw_learning_curve
from bevstack.runtime.loading import load
from bevstack.runtime.predict import predict_dataset
from bevstack.tables.reader import Tables
from bevstack.training.checkpoint import read_weights

FORMAT = "bevstack-learning-curve-1"
Point = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CurveOptions:
    """The checkpoints of a run, and the scenes to score them on."""

    checkpoints: Sequence[Path]
    processes: int  # number of training processes, with one thread each
    nuscenes: Path  # root of the data set
    version: str  # folder of the tables
    held_out: str  # scenes to score on
    max_samples: int | None = None  # score on whole scenes of at most this number of samples
    classes: Path | None = None  # classes of categories that are not nuScenes'
    out: Path


def draw_curve(options: CurveOptions, echo: Callable[[str], None]) -> None:
    """Score the checkpoints that have no point yet, and write ``curve.json`` and ``curve.png``.

    Raises:
        ValueError: a file is not a checkpoint, or ``classes`` is damaged.
        FileNotFoundError: a checkpoint, the tables or the split do not exist.
    """
    initialise_worker(0)
    tables = Tables(options.nuscenes, options.version, classes=options.classes)
    options.out.mkdir(parents=True, exist_ok=True)
    points = [score(path, tables, options, echo) for path in sorted(options.checkpoints)]
    points.sort(key=lambda point: point["cpu_seconds"])
    content = {"format": FORMAT, "versions": versions(), "points": points}
    write_text_atomically(options.out / "curve.json", json.dumps(without_nan(content), indent=1))
    minutes = [point["cpu_seconds"] / 60 for point in points]
    curves = {name: [point[name] for point in points] for name in ("NDS", "mAP")}
    style = CurveStyle(
        title=f"{options.held_out}: {points[0]['samples']} samples",
        x_label="minutes of processor time",
        y_label="score",
        smoothing=1,
    )
    write_picture(options.out / "curve.png", draw_learning_curve(minutes, curves, style))


def score(
    checkpoint: Path, tables: Tables, options: CurveOptions, echo: Callable[[str], None]
) -> Point:
    """Return the point of one checkpoint; score it unless the point is finished."""
    path = options.out / f"{checkpoint.stem}.json"
    marks = {
        "sha256": hash_file(checkpoint),
        "held_out": options.held_out,
        "max_samples": options.max_samples,
        "processes": options.processes,
        "data": f"{tables.root.name}/{tables.version}",
        "classes": None if options.classes is None else hash_file(options.classes),
    }
    if path.is_file():
        finished: Point = expect_object(str(path), read_json(path, "point of the curve"))
        if finished.get("inputs") == marks:
            for name in ("cpu_seconds", "samples", "NDS", "mAP"):
                expect_number(f"{name} of {path}", expect_field(str(path), finished, name))
            return finished
    weights, text, position = read_weights(checkpoint)
    config = config_from_json(text)
    model = options.out / "model.safetensors"
    save_weights(model, weights, config)
    dataset = open_split(tables, options.held_out, config, options.max_samples)
    results = options.out / f"{checkpoint.stem}.results.json"
    predict_dataset(load(model), dataset, results)
    figures = compute_figures(results, tables, dataset.scene_names)
    point: Point = without_nan(
        {
            "steps": position.steps_done,
            "cpu_seconds": position.elapsed_s * options.processes,
            "samples": len(dataset),
            "inputs": marks,
            **{name: value for name, value in figures.items() if name != "groups"},
        }
    )
    write_text_atomically(path, json.dumps(point, indent=1))
    results.unlink()
    model.unlink()
    scores = f"NDS {point['NDS']:.4f}  mAP {point['mAP']:.4f}"
    minutes = point["cpu_seconds"] / 60
    echo(f"{position.steps_done:7} steps {minutes:6.1f} min  {scores}")
    return point
