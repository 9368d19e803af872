"""What the targets of the Makefile install, with programs that only note how they are called."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sources import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")
PAGE = "https://pytorch.org/get-started/locally/"
# pip finds no torch without an index: `pip install --dry-run --no-index` fails.
PROGRAM = (
    '#!/bin/sh\necho "$(basename "$0") $*" >> "{log}"\ncase "$*" in *--dry-run*) exit 1;; esac\n'
)
TORCH, BASE, ALL = "install torch==2.13.0", "-e .", "-e .[test,nuscenes,dev]"
VCD = "install --no-deps vcd==6.0.3"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[list[str], str]]:
    """Return a function that runs make; it returns the calls of programs, and the output."""
    log = tmp_path / "log"
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for name in ("python", "bevstack"):
        path = tmp_path / "venv" / "bin" / name
        path.write_text(PROGRAM.format(log=log))
        path.chmod(0o755)

    def run(*words: str) -> tuple[list[str], str]:
        log.write_text("")
        command = ["make", "--no-print-directory", f"VENV={tmp_path / 'venv'}", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return log.read_text().splitlines(), done.stdout

    return run


def installs(calls: list[str]) -> list[str]:
    """Return what pip installs, without the build tools."""
    words = [call.split("-m pip ")[1] for call in calls if "-m pip install" in call]
    kept = [w for w in words if "--dry-run" not in w and "--upgrade" not in w]
    return [w.replace("install --no-build-isolation ", "") for w in kept]


def test_the_demo_installs_the_base_and_the_tests_add_their_packages(make) -> None:
    calls, _ = make("demo")
    assert installs(calls) == [TORCH, BASE]
    assert calls[-1] == "bevstack demo --out out/demo"
    assert installs(make("install")[0]) == [ALL, VCD]
    assert installs(make("demo")[0]) == installs(make("install")[0]) == []


def test_after_the_tests_the_demo_installs_nothing(make) -> None:
    assert installs(make("install")[0]) == [TORCH, ALL, VCD]
    calls, output = make("train-demo")
    assert calls == ["bevstack train-demo --out out/train_demo"] and PAGE not in output


def test_another_torch_is_installed_once(make) -> None:
    make("install-base")
    older = ("install-base", "TORCH=torch==2.11.0")
    assert installs(make(*older)[0]) == ["install torch==2.11.0", BASE]
    assert installs(make(*older)[0]) == []


def test_the_size_of_torch_and_the_small_build_are_named_before_the_download(make) -> None:
    _, output = make("install-base")
    note = output.index("about 3 GB")
    assert note < output.index("pip install") and "TORCH_INDEX=URL" in output and PAGE in output
    calls, output = make("install-base", "TORCH_INDEX=some-index")
    assert installs(calls)[0] == "install --index-url some-index torch==2.13.0"
    assert "about 3 GB" not in output
