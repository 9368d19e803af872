"""The programs outside the package start and print their help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(p for d in ("tools", "data", "visualize") for p in (ROOT / d).glob("*.py"))
MODULES = ("benchmarks.run", "benchmarks.full_size_tables", "benchmarks.cuda_registers")


@pytest.mark.parametrize("program", PROGRAMS, ids=[p.stem for p in PROGRAMS])
def test_program_prints_its_help(program: Path) -> None:
    command = [sys.executable, str(program), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout.startswith("usage: "), shown.stderr


@pytest.mark.parametrize("module", MODULES)
def test_benchmark_prints_its_help(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert shown.returncode == 0 and shown.stdout.startswith("usage: "), shown.stderr


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "bevstack", "train", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0 and "usage: bevstack train" in shown.stdout, shown.stderr
