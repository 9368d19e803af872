"""Equality with the devkit on drawn tables and results, from files to files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(
    importlib.util.find_spec("nuscenes") is None, reason="nuscenes-devkit is not installed"
)
@pytest.mark.parametrize(
    "scenes", [pytest.param(1, id="one scene"), pytest.param(150, id="val", marks=pytest.mark.slow)]
)
def test_our_files_are_the_devkits_at_any_size(scenes: int, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.run",
        "evaluate",
        "--folder",
        str(tmp_path / "data"),
    ]
    command += ["--scenes", str(scenes), "--json", str(result)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(result.read_text())
    assert figures["equal"] is True
    assert figures["samples"]["samples"] >= 40 * scenes
    assert figures["samples"]["scored predictions"] > 100 * figures["samples"]["samples"]
    assert figures["sides"]["devkit"]["nds"] == figures["sides"]["bevstack"]["nds"] > 0.2
