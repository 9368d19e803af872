"""The unchanged nuscenes-devkit on a root whose map images may be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


def open_devkit(root: Path, version: str, scratch: Path) -> Any:
    """Open ``root`` with the devkit's NuScenes class, with a blank image for every map.

    The devkit requires every map image to exist, but these tests read none of them.
    """
    nuscenes = pytest.importorskip("nuscenes")
    view = scratch / "devkit_root"
    (view / "maps").mkdir(parents=True)
    for entry in root.iterdir():
        if entry.name != "maps":
            (view / entry.name).symlink_to(entry)
    for row in json.loads((root / version / "map.json").read_text()):
        cv2.imwrite(str(view / row["filename"]), np.zeros((2, 2), np.uint8))
    return nuscenes.NuScenes(version, str(view), verbose=False)
