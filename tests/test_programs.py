"""The programs outside the package start, and `check_nuscenes` finds what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(p for d in ("tools", "data", "visualize") for p in (ROOT / d).glob("*.py"))


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("program", PROGRAMS, ids=[p.stem for p in PROGRAMS])
def test_program_explains_itself(program: Path) -> None:
    shown = run(program, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith("usage: "), shown.stderr
