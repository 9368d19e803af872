"""A whole benchmark: every case in a process of its own, a JSON file after each, and its table."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bevstack import __version__
from bevstack.experiments.benchmark.cases import (
    BACKBONE,
    BACKBONE_SIZES,
    DETECTOR,
    BenchmarkCase,
)
from bevstack.files import write_text_atomically

FORMAT = "bevstack-benchmark-1"
UNMEASURED = "unmeasured"
SPEEDS = ("float32", "bfloat16")  # columns of images a second

Row = dict[str, Any]  # "case", and "figures" or "failure"


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the machine and the versions that figures are valid for."""
    found: dict[str, Any] = {
        "bevstack": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "device": str(device),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def run_cases(
    cases: Sequence[BenchmarkCase],
    *,
    device: torch.device,
    seconds: float,
    path: Path | None,
    report: Callable[[Row], None],
) -> list[Row]:
    """Measure every case and return a row for each; a case that fails gets a row with the reason.

    Args:
        cases: what to measure.
        device: where backbones, detectors and operators run.
        seconds: about how long each case is run after its first run.
        path: JSON file, written after every row. Rows that it holds already are not measured again.
        report: called with each row.

    Raises:
        OSError: the file cannot be written.
        ValueError: the file holds figures of another machine or version.
    """
    machine = describe_machine(device)
    kept = {} if path is None else _finished_rows(path, machine)
    rows: list[Row] = []
    for case in cases:
        row = kept.get(json.dumps(case.to_dict())) or _measure(case, device, seconds)
        rows.append(row)
        report(row)
        if path is not None:
            write_text_atomically(path, _as_text(machine, rows, os.getloadavg()))
    return rows


def read_benchmark(path: Path) -> dict[str, Any]:
    """Return the document that ``run_cases`` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such document.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if document["format"] == FORMAT and document["machine"] and document["rows"]:
            return document
        found = f"format {document['format']!r}"
    except (ValueError, KeyError, TypeError) as error:
        found = type(error).__name__
    raise ValueError(
        f"file must be one of `bevstack benchmark --json`; got {path}, {found}: choose another file"
    )


def table_lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return titles and cells of the table, one line a row."""
    titles = ("", "precision", "threads", "first", "later", "processor", "memory")
    lines: list[tuple[str, ...]] = [titles]
    for row in rows:
        case = BenchmarkCase(**row["case"])
        start = (case.title, case.precision, str(case.threads))
        if "failure" in row:
            lines.append((*start, "failed: " + row["failure"], "", "", ""))
            continue
        figures = row["figures"]
        times = (_milliseconds(figures[key]) for key in ("cold_ms", "warm_ms", "processor_ms"))
        lines.append((*start, *times, f"{figures['memory_mb']:,.0f} MB"))
    return lines


def part_lines(rows: Sequence[Row]) -> list[str]:
    """Return a line for each detector with the share of its parts in the time of a frame."""
    lines = []
    for row in rows:
        case = BenchmarkCase(**row["case"])
        if case.kind != DETECTOR or "figures" not in row:
            continue
        figures = row["figures"]
        parts = dict(figures["parts_ms"])
        parts["rest"] = figures["warm_ms"] - sum(parts.values())
        shares = ", ".join(
            f"{name} {100 * part / figures['warm_ms']:.0f} %"
            for name, part in parts.items()
            if part > 0
        )
        lines.append(f"{case.title}, {case.precision}, threads {case.threads}: {shares}")
    return lines


def markdown_lines(document: dict[str, Any]) -> list[str]:
    """Return a JSON document of ``run_cases`` as Markdown: machine, images a second, all rows.

    Images a second follow from the processor time with one thread. What was not measured is named
    so.
    """
    machine, rows = document["machine"], document["rows"]
    names = ("processor", "cores", "torch", "bevstack", "gpu")
    facts = ", ".join(f"{name} {machine[name]}" for name in names if name in machine)
    lines = [f"Measured on: {facts}; load {document['load_average']} at the end.", ""]
    lines += ["| backbone, one image | float32 | bfloat16 | GPU |", "| --- | --- | --- | --- |"]
    for name, size in BACKBONE_SIZES.items():
        speeds = [_images_a_second(rows, name, precision) for precision in SPEEDS]
        gpu = UNMEASURED if machine["device"] == "cpu" else "see below"
        lines.append(f"| {name} {size} | {' | '.join(speeds)} | {gpu} |")
    titles, *cells = table_lines(rows)
    lines += ["", f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    return [*lines, "", *(f"* {line}" for line in part_lines(rows))]


def _images_a_second(rows: Sequence[Row], name: str, precision: str) -> str:
    for row in rows:
        case = row["case"]
        found = (case["kind"], case["name"], case["precision"], case["threads"])
        if found == (BACKBONE, name, precision, 1) and "figures" in row:
            return f"{1e3 / row['figures']['processor_ms']:.2f}/s"
    return UNMEASURED


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _as_text(machine: dict[str, Any], rows: list[Row], load: Sequence[float]) -> str:
    document = {
        "format": FORMAT,
        "machine": machine,
        "load_average": round(load[0], 1),
        "rows": rows,
    }
    return json.dumps(document, indent=1) + "\n"


def _finished_rows(path: Path, machine: dict[str, Any]) -> dict[str, Row]:
    """Return the rows of an earlier run by case; none if there is no file yet."""
    if not path.exists():
        return {}
    document = read_benchmark(path)
    found = document["machine"]
    kept = {json.dumps(row["case"]): row for row in document["rows"] if "figures" in row}
    if found != machine:
        other = [name for name in machine if found.get(name) != machine[name]]
        raise ValueError(
            f"--json must name a new file or one of this machine and these versions; got {path}, "
            f"which differs in {', '.join(other) or 'its form'}: choose another file"
        )
    return kept


def _measure(case: BenchmarkCase, device: torch.device, seconds: float) -> Row:
    """Run a case in a new process and return its row."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "case.json", Path(folder) / "figures.json"
        source.write_text(json.dumps(case.to_dict()), encoding="utf-8")
        program = [sys.executable, "-m", "bevstack.experiments.benchmark.measure"]
        done = subprocess.run(
            [*program, str(source), str(target), str(device), str(seconds)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return {"case": case.to_dict(), "failure": _reason(done)}
        return {"case": case.to_dict(), "figures": json.loads(target.read_text("utf-8"))}


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the process was stopped by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"the process ended with code {done.returncode}"


def _processor() -> str:
    """Return the name of the processor's model, as far as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
