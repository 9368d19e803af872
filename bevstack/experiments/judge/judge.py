"""Judgement of a trained detector on held-out scenes, against baselines and controls.

Every row is scored by the nuScenes metric on the same scenes. Finished rows are kept in
``<out>/rows`` and not made again; a row that was stopped continues with its next scene.
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
from bevstack.evaluation.analysis.bootstrap import FEWEST_SCENES
from bevstack.experiments.finished import read_finished_file
from bevstack.experiments.judge import verdict
from bevstack.experiments.judge.figures import (
    Figures,
    compute_figures,
    official_figures,
    without_nan,
)
from bevstack.experiments.judge.rows import MODEL, Case, Row, list_rows, select_rows
from bevstack.experiments.judge.splits import open_split
from bevstack.experiments.judge.turned_world import read_manifest
from bevstack.files import write_text_atomically
from bevstack.models.weights import read_safetensors
from bevstack.runtime.devices import choose_device
from bevstack.runtime.loading import load
from bevstack.runtime.precision import FLOAT32, choose_precision
from bevstack.tables.reader import Tables

FORMAT = "bevstack-judge-1"
PACKAGES = ("torch", "numpy", "opencv-python-headless", "numba", "nuscenes-devkit")
COLUMNS = ("NDS", "mAP", "mATE", "mASE", "mAOE", "mAVE", "mAAE")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """The model to judge, the scenes to judge it on, and the selected rows.

    Raises:
        ValueError: ``official`` with ``classes``.
    """

    model: Path  # weights file
    nuscenes: Path  # root of the data set
    version: str  # folder of the tables
    split: str  # scenes to score on
    train_split: str = "synth_train"  # scenes for the priors
    only: Sequence[str] = ()  # names or kinds of rows, or beginnings of names; empty: all rows
    max_samples: int | None = None  # whole scenes of at most this number of samples
    single_frame: Path | None = None  # weights of a model trained with frames (0,)
    verify: bool = True  # compare weights with their checksums
    device: str = "cpu"  # of the models: auto, cpu, cuda or cuda:N
    precision: str = FLOAT32  # of the models: one of runtime.precision's PRECISIONS
    allow_outside: bool = False  # the tables may name images outside of the root
    classes: Path | None = None  # classes of categories that are not nuScenes'
    official: bool = False  # also score the model's rows with nuscenes-devkit
    out: Path = Path("out/judge")
    command: str = ""  # the user's command line, for judge.json

    def __post_init__(self) -> None:
        if self.official and self.classes is not None:
            raise ValueError(
                "--official must be given without --classes; got both, and nuscenes-devkit knows "
                "no other categories than nuScenes'"
            )


Echo = Callable[[str], None]  # shows one line to the user
Lines = Sequence[Sequence[str]]  # titles, and then rows of cells
EchoTable = Callable[[Lines], None]  # shows a table to the user


def judge(options: JudgeOptions, echo: Echo, echo_table: EchoTable | None = None) -> bool:
    """Judge a detector and write ``judge.json``; return False if a control fails.

    Without ``echo_table``, tables are shown as aligned text.

    Raises:
        ValueError: a selected row does not exist, or ``out`` holds finished rows of another model.
        FileNotFoundError: the weights, tables or split do not exist.
    """
    case = open_case(options)
    rows = select_rows(list_rows(case), options.only)
    if options.official and "model" not in [row.name for row in rows]:
        raise ValueError("--only must name the row model with --official; got only other rows")
    inputs = describe_inputs(case, options.train_split)
    finished: dict[str, Figures] = {}
    for row in rows:
        finished[row.name] = finish_row(row, case, options.out, inputs, echo)
    official_names = [row.name for row in rows if options.official and row.kind == MODEL]
    official = {name: finish_official(name, case, options.out, inputs) for name in official_names}
    for lines in (list_figures(finished), list_classes(finished)):
        echo("")
        (echo_table or (lambda table: echo(align(table))))(lines)
    echo("")
    controls, goals = verdict.controls(finished, official), verdict.goals(finished)
    if len(case.scenes) < FEWEST_SCENES:
        goals = []
        echo(
            f"note: {len(case.scenes)} scenes are too few to compare the model with baselines; "
            f"{FEWEST_SCENES} are needed"
        )
    if not {"model", "prior"} <= finished.keys():
        echo("note: controls need the rows model and prior; some controls are not checked")
    for title, checks in (("controls", controls), ("goals", goals)):
        for check in checks:
            echo(f"{title:9}{'holds' if check.holds else 'FAILS':7}{check.name}: {check.evidence}")
    content = {
        "format": FORMAT,
        "command": options.command,
        "versions": versions(),
        **inputs,
        "rows": finished,
        "official": official or None,
        "controls": [check.to_json() for check in controls],
        "goals": [check.to_json() for check in goals],
    }
    path = options.out / "judge.json"
    write_text_atomically(path, json.dumps(without_nan(content), indent=1) + "\n")
    echo(f"\n{path}")
    return all(check.holds for check in controls)


def open_case(options: JudgeOptions) -> Case:
    """Open the model's file and the scenes to score it on.

    Raises:
        ValueError: the weights of ``single_frame`` belong to a model that uses other frames too.
    """
    config = load(options.model, verify=options.verify).config
    if options.single_frame is not None:
        frames = load(options.single_frame, verify=options.verify).config.frames
        if frames != (0,):
            raise ValueError(
                f"--single-frame must be weights of a model with frames (0,); got {frames}"
            )
    tables = Tables(
        options.nuscenes,
        options.version,
        allow_outside=options.allow_outside,
        classes=options.classes,
    )
    device = choose_device(options.device)
    return Case(
        weights=options.model,
        single_frame_weights=options.single_frame,
        dataset=open_split(tables, options.split, config, options.max_samples),
        train=options.train_split,
        folder=options.out,
        verify=options.verify,
        device=device,
        precision=choose_precision(options.precision, device),
    )


def describe_inputs(case: Case, train: str) -> dict[str, Any]:
    """Identify model and data of the figures; finished rows are reused only for equal inputs."""
    tables = case.dataset.tables
    _, metadata = read_safetensors(case.weights, verify=case.verify)
    single_frame_weights = case.single_frame_weights
    return {
        "model": {
            "file": case.weights.name,
            "sha256": hash_file(case.weights),
            "bytes": case.weights.stat().st_size,
            "name": case.detector.config.name,
            "metadata": {k: v for k, v in metadata.items() if k != "config"},
        },
        "single_frame_model": single_frame_weights
        and {"file": single_frame_weights.name, "sha256": hash_file(single_frame_weights)},
        "data": {
            "version": tables.version,
            "digest": read_manifest(tables.root).get("digest") or hash_tables(tables),
            "train": train,
            "scenes": list(case.scenes),
            "samples": len(case.dataset),
            **({"classes": dict(tables.given_classes)} if tables.given_classes else {}),
        },
        **({} if case.precision == FLOAT32 else {"precision": case.precision}),
    }


def finish_row(row: Row, case: Case, out: Path, inputs: Mapping[str, Any], echo: Echo) -> Figures:
    """Return the figures of a row; make them unless they are finished.

    Raises:
        ValueError: ``out`` holds the row's figures for another model or other data.
    """
    path = out / "rows" / f"{row.name}.json"
    finished = read_finished(path, inputs)
    if finished is not None:
        echo(f"{row.name:24} already finished")
        return finished
    started = time.perf_counter()
    results = out / "results" / f"{row.name}.json"
    row.make(case, results)
    figures = compute_figures(results, case.dataset.tables, case.scenes)
    seconds = round(time.perf_counter() - started, 1)
    content = {"kind": row.kind, "about": row.about, "seconds": seconds, **figures}
    write_finished(path, inputs, content)
    if row.kind != MODEL:  # nuscenes-devkit may score the model's rows later
        results.unlink()
    echo(f"{row.name:24} NDS {figures['NDS']:.4f}  {seconds:.0f} s")
    reported: Figures = without_nan(content)
    return reported


def finish_official(name: str, case: Case, out: Path, inputs: Mapping[str, Any]) -> Figures:
    """Return a row's figures computed by nuscenes-devkit from the row's results file.

    Finished figures are reused.

    Raises:
        FileNotFoundError: the row's results file does not exist any more.
    """
    path = out / "rows" / f"official_{name}.json"
    figures = read_finished(path, inputs)
    if figures is None:
        results = out / "results" / f"{name}.json"
        if not results.is_file():
            raise FileNotFoundError(
                f"{results} must exist for --official; got no file: remove rows/{name}.json"
            )
        figures = official_figures(results, case.dataset.tables, case.scenes)
        write_finished(path, inputs, figures)
    return figures


def read_finished(path: Path, inputs: Mapping[str, Any]) -> Figures | None:
    """Read finished figures; None if there are none.

    Raises:
        ValueError: the file is damaged, or belongs to another model or other data.
    """
    if not path.is_file():
        return None
    marks, figures = read_finished_file(path, "figures", COLUMNS)
    if marks != inputs_as_json(inputs):
        differing = [k for k, v in inputs_as_json(inputs).items() if marks.get(k) != v]
        raise ValueError(
            f"{path} must be of this model and these data; got differences in "
            f"{', '.join(differing)}: use another --out, or remove the file"
        )
    return figures


def write_finished(path: Path, inputs: Mapping[str, Any], figures: Figures) -> None:
    """Save figures for later runs."""
    content = without_nan({"marks": inputs, "figures": figures})
    write_text_atomically(path, json.dumps(content, indent=1))


def inputs_as_json(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs as they are after writing and reading JSON."""
    restored: dict[str, Any] = json.loads(json.dumps(without_nan(dict(inputs))))
    return restored


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_tables(tables: Tables) -> str:
    """Return the SHA-256 of the names and bytes of a version's tables."""
    digest = hashlib.sha256()
    for path in sorted(tables.folder.glob("*.json")):
        digest.update(f"{hash_file(path)}  {path.name}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that the figures depend on."""
    installed = {"bevstack": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "none"
    return {**installed, "machine": platform.machine()}


def list_figures(rows: Mapping[str, Figures]) -> Lines:
    """List the figures of all rows, below their titles."""
    lines = [["", *COLUMNS, "boxes"]]
    for name, row in rows.items():
        lines.append([name, *(_figure(row[column]) for column in COLUMNS), str(row["boxes"])])
    return lines


def list_classes(rows: Mapping[str, Figures]) -> Lines:
    """List AP by class for all rows, below the titles."""
    names = next(iter(rows.values()))["classes"]
    lines = [["AP", *(name[:12] for name in names)]]
    for name, row in rows.items():
        lines.append(
            [name, *(_figure(row["classes"][class_name]["AP"], 3) for class_name in names)]
        )
    return lines


def _figure(value: float | None, digits: int = 4) -> str:
    """Format a figure; a dash for a missing one."""
    return "-" if value is None else f"{value:.{digits}f}"


def align(lines: Lines) -> str:
    """Align the cells of a table: the first column left, the remaining ones right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column_index == 0 else cell.rjust(width)
            for column_index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
