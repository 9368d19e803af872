from __future__ import annotations

import filecmp
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import shared_dir
from tools.pack_oracles import pack

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_operator_tests_find_their_cases_in_the_packed_folder(
    oracle_dir: Path, tmp_path: Path
) -> None:
    shared = shared_dir()
    assert shared is not None
    copies = pack(shared, tmp_path / "shared")
    assert len(copies) > 30
    for copy in copies:
        original = oracle_dir.parent / copy.relative_to(tmp_path / "shared")
        assert filecmp.cmp(copy, original, shallow=False)
    assert sum(copy.stat().st_size for copy in copies) < 15e6
    files = ["tests/ops/test_dcnv3.py", "tests/ops/test_ms_deform_attn.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    command += ["-k", "official or unpacking"]
    environment = {**os.environ, "BEVSTACK_SHARED": str(tmp_path / "shared")}
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert "skipped" not in ran.stdout and "passed" in ran.stdout


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must hold internimage/README"):
        pack(tmp_path, tmp_path / "out")
