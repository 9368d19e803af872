"""The program that takes a picture of the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sources import ROOT
from tests.viewer.browser.chromium import chromium_path
from tests.viewer.worlds import VERSION

PROGRAM = ROOT / "tools" / "picture_page.py"


def take(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), str(out), "--size", "900", "500", "view", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


def test_the_page_is_saved_with_scene_panel_and_cameras(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("viser")
    chromium_path()
    out = tmp_path / "page.png"
    done = take(out, "--nuscenes", str(folder / "world"), "--version", VERSION)
    assert done.returncode == 0 and done.stdout.strip() == str(out), done.stderr
    picture = np.asarray(Image.open(out).convert("RGB"))
    assert picture.shape == (500, 900, 3)
    scene, panel, strip = picture[:350, :540], picture[:, 560:], picture[420:490, 20:530]
    assert min(part.std() for part in (scene, panel, strip)) > 10


def test_an_error_of_the_viewer_is_its_own(tmp_path: Path) -> None:
    done = take(tmp_path / "page.png", "--nuscenes", "none", "--version", VERSION)
    assert done.returncode == 2 and "none" in done.stderr and not done.stdout
