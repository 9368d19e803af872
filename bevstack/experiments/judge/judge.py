"""Judge a trained detector on held-out scenes: baselines it must beat, controls it must fail.

Every row is scored by the nuScenes metric on the same scenes. Finished rows are kept in
``<out>/rows`` and not made again; a row that was stopped continues with the scene it had reached.
``<out>/judge.json`` holds all rows. ``verdict.py`` has the thresholds and their reasons.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevstack import __version__
from bevstack.experiments.judge import verdict
from bevstack.experiments.judge.figures import Figures, figures_of, official_figures, without_nan
from bevstack.experiments.judge.rows import MODEL, Case, Row, chosen, rows_of
from bevstack.experiments.judge.splits import open_split
from bevstack.experiments.judge.turned_world import read_manifest
from bevstack.files import write_text_atomically
from bevstack.models.weights import read_safetensors
from bevstack.runtime.detector import load
from bevstack.tables.reader import Tables

FORMAT = "bevstack-judge-1"
PACKAGES = ("torch", "numpy", "opencv-python-headless", "numba", "nuscenes-devkit")
COLUMNS = ("NDS", "mAP", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """The model to judge, the scenes to judge it on, and the rows wanted."""

    model: Path  # weights file
    nuscenes: Path  # root of the data set
    version: str  # folder of the tables
    split: str  # scenes to score on
    train_split: str = "synth_train"  # scenes that priors are learned from
    only: Sequence[str] = ()  # names of rows, kinds, or beginnings of names; empty: all rows
    max_samples: int | None = None  # whole scenes of at most this number of samples
    single_frame: Path | None = None  # weights of a model trained with frames (0,)
    official: bool = False  # also score the model's rows with nuscenes-devkit
    out: Path = Path("out/judge")
    command: str = ""  # as typed, for judge.json


Echo = Callable[[str], None]  # shows one line to the user


def judge(options: JudgeOptions, echo: Echo) -> bool:
    """Judge a detector and write ``judge.json``; return False if a control does not behave.

    Raises:
        ValueError: rows that do not exist, or finished rows of another model in ``out``.
        FileNotFoundError: no such weights, tables or split.
    """
    case = open_case(options)
    rows = chosen(rows_of(case), options.only)
    if options.official and "model" not in [row.name for row in rows]:
        raise ValueError("--only must name the row model with --official; got none such")
    marks = marks_of(case, options.train_split)
    finished: dict[str, Figures] = {}
    for row in rows:
        finished[row.name] = finish_row(row, case, options.out, marks, echo)
    asked = [row.name for row in rows if options.official and row.kind == MODEL]
    official = {name: finish_official(name, case, options.out, marks) for name in asked}
    echo(f"\n{format_rows(finished)}\n\n{format_classes(finished)}\n")
    controls, goals = verdict.controls(finished, official), verdict.goals(finished)
    if not {"model", "prior"} <= finished.keys():
        echo("note: controls are held against the rows model and prior; without, some are not")
    for title, checks in (("controls", controls), ("goals", goals)):
        for check in checks:
            echo(f"{title:9}{'holds' if check.holds else 'FAILS':7}{check.name}: {check.says}")
    content = {
        "format": FORMAT,
        "command": options.command,
        "versions": versions(),
        **marks,
        "rows": finished,
        "official": official or None,
        "controls": [check._asdict() for check in controls],
        "goals": [check._asdict() for check in goals],
    }
    path = options.out / "judge.json"
    write_text_atomically(path, json.dumps(without_nan(content), indent=1) + "\n")
    echo(f"\n{path}")
    return all(check.holds for check in controls)


def open_case(options: JudgeOptions) -> Case:
    """The model's file and the scenes to score it on.

    Raises:
        ValueError: the weights of the single-frame model look at other frames too.
    """
    config = load(options.model).config
    if options.single_frame is not None:
        frames = load(options.single_frame).config.frames
        if frames != (0,):
            raise ValueError(
                f"--single-frame must be weights of a model of frames (0,); got {frames}"
            )
    tables = Tables(options.nuscenes, options.version)
    return Case(
        weights=options.model,
        single_frame_weights=options.single_frame,
        dataset=open_split(tables, options.split, config, options.max_samples),
        train=options.train_split,
        folder=options.out,
    )


def marks_of(case: Case, train: str) -> dict[str, Any]:
    """What the figures are of: a finished row counts only where all of it is the same."""
    tables = case.dataset.tables
    _, metadata = read_safetensors(case.weights)
    other = case.single_frame_weights
    return {
        "model": {
            "file": case.weights.name,
            "sha256": digest_of(case.weights),
            "bytes": case.weights.stat().st_size,
            "name": case.detector.config.name,
            "metadata": {k: v for k, v in metadata.items() if k != "config"},
        },
        "single_frame_model": other and {"file": other.name, "sha256": digest_of(other)},
        "data": {
            "version": tables.version,
            "digest": read_manifest(tables.root).get("digest") or digest_of_tables(tables),
            "train": train,
            "scenes": list(case.scenes),
            "samples": len(case.dataset),
        },
    }


def finish_row(row: Row, case: Case, out: Path, marks: Mapping[str, Any], echo: Echo) -> Figures:
    """The figures of a row, made now or before.

    Raises:
        ValueError: figures of another model or of other data lie there.
    """
    path = out / "rows" / f"{row.name}.json"
    found = read_finished(path, marks)
    if found is not None:
        echo(f"{row.name:24} finished before")
        return found
    started = time.perf_counter()
    results = out / "results" / f"{row.name}.json"
    row.make(case, results)
    figures = figures_of(results, case.dataset.tables, case.scenes)
    seconds = round(time.perf_counter() - started, 1)
    content = {"kind": row.kind, "about": row.about, "seconds": seconds, **figures}
    write_finished(path, marks, content)
    if row.kind != MODEL:  # what nuscenes-devkit may be asked about
        results.unlink()
    echo(f"{row.name:24} NDS {figures['NDS']:.4f}  {seconds:.0f} s")
    return without_nan(content)


def finish_official(name: str, case: Case, out: Path, marks: Mapping[str, Any]) -> Figures:
    """A row's figures by nuscenes-devkit, made now or before, from what the row left.

    Raises:
        FileNotFoundError: the row's results are not there any more.
    """
    path = out / "rows" / f"official_{name}.json"
    found = read_finished(path, marks)
    if found is None:
        results = out / "results" / f"{name}.json"
        if not results.is_file():
            raise FileNotFoundError(f"{results} must exist for --official; remove rows/{name}.json")
        found = official_figures(results, case.dataset.tables, case.scenes)
        write_finished(path, marks, found)
    return found


def read_finished(path: Path, marks: Mapping[str, Any]) -> Figures | None:
    """Figures that lie there; None if there are none."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["marks"] != marks_as_read(marks):
        differing = [k for k, v in marks_as_read(marks).items() if content["marks"].get(k) != v]
        raise ValueError(
            f"{path} must be of this model and these data; it differs in {', '.join(differing)}: "
            "give another --out, or remove it"
        )
    return content["figures"]


def write_finished(path: Path, marks: Mapping[str, Any], figures: Figures) -> None:
    """Keeps figures for the next time."""
    content = without_nan({"marks": marks, "figures": figures})
    write_text_atomically(path, json.dumps(content, indent=1))


def marks_as_read(marks: Mapping[str, Any]) -> dict[str, Any]:
    """As they are after they were in a file."""
    return json.loads(json.dumps(without_nan(dict(marks))))


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of_tables(tables: Tables) -> str:
    """SHA-256 of the names and bytes of a version's tables."""
    digest = hashlib.sha256()
    for path in sorted(tables.folder.glob("*.json")):
        digest.update(f"{digest_of(path)}  {path.name}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    found = {"bevstack": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return {**found, "machine": platform.machine()}


def format_rows(rows: Mapping[str, Figures]) -> str:
    """The table of all rows."""
    lines = [["", *COLUMNS, "boxes"]]
    for name, row in rows.items():
        lines.append([name, *(_figure(row[column]) for column in COLUMNS), str(row["boxes"])])
    return _aligned(lines)


def format_classes(rows: Mapping[str, Figures]) -> str:
    """AP of every class of all rows."""
    names = next(iter(rows.values()))["classes"]
    lines = [["AP", *(name[:12] for name in names)]]
    for name, row in rows.items():
        lines.append([name, *(_figure(row["classes"][of]["AP"], 3) for of in names)])
    return _aligned(lines)


def _figure(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
