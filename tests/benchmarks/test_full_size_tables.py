"""The benchmark's tables are consistent and have the stated numbers of rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bevstack.tables.names import TABLES
from bevstack.tables.reader import Tables
from bevstack.tables.writer import check_tables

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks/full_size_tables.py"
VERSION = "v1.0-trainval"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("full")
    subprocess.run([sys.executable, PROGRAM, root, "--scenes", "3"], check=True)
    return root


def test_every_reference_resolves_and_no_token_is_repeated(root: Path) -> None:
    check_tables({n: json.loads((root / VERSION / f"{n}.json").read_bytes()) for n in TABLES})


def test_each_scene_has_the_rows_of_a_850th_of_trainval(root: Path) -> None:
    tables = Tables(root, VERSION)
    assert len(tables.samples.token) // 3 == 34_149 // 850
    assert len(tables.keyframes.token) == 12 * len(tables.samples.token)
    readings = len(tables.keyframes.token) + len(tables.sweeps.token)
    assert abs(readings / 3 - 2_631_083 / 850) < 2
    assert abs(len(tables.annotations.token) / 3 - 1_166_187 / 850) < 2
    for sample in range(len(tables.samples.token)):
        sensors = tables.keyframes.sensor[tables.keyframes_of(sample)]
        assert len(set(tables.calibrated_sensors.channel[sensors])) == 12
