"""The programs outside the package start, and `check_nuscenes` finds what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bevstack.synthetic import WorldSpec, make_world

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(p for d in ("tools", "data", "visualize") for p in (ROOT / d).glob("*.py"))


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("program", PROGRAMS, ids=[p.stem for p in PROGRAMS])
def test_program_explains_itself(program: Path) -> None:
    shown = run(program, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith("usage: "), shown.stderr


@pytest.fixture
def world(tmp_path: Path) -> Path:
    spec = WorldSpec(train_scenes=1, val_scenes=1, samples_per_scene=2, image_size=(36, 64))
    make_world(tmp_path / "world", spec)
    return tmp_path / "world"


CHECK = ROOT / "data" / "check_nuscenes.py"


def test_check_finds_a_whole_data_set_whole(world: Path) -> None:
    done = run(CHECK, str(world), "v1.0-synth")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "scene-2001: 2 samples",
        "scene-6001: 2 samples",
    ]
    assert all(line.endswith("images all there") for line in lines)


def test_check_names_a_missing_image_and_a_missing_table(world: Path) -> None:
    image = next(world.glob("samples/CAM_BACK/*scene-6001*.jpg"))
    image.unlink()
    done = run(CHECK, str(world), "v1.0-synth")
    assert done.returncode == 1
    assert "images 1 missing" in done.stdout and image.name in done.stdout
    (world / "v1.0-synth" / "ego_pose.json").unlink()
    done = run(CHECK, str(world), "v1.0-synth")
    assert done.returncode == 2 and "ego_pose.json" in done.stderr
