"""Files for other programs: a launch file of ROS 2, views for RViz and Foxglove, parameters."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from bevstack.files import write_atomically

LAUNCH, PARAMETERS, RVIZ, FOXGLOVE = FILES = (
    "bevstack_launch.py",
    "node.yaml",
    "bevstack.rviz",
    "bevstack_foxglove.json",
)


def copy_files(folder: Path) -> list[Path]:
    """Write the files into a folder, which is made if it does not exist; return their paths.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = importlib.resources.files(__name__)
    for name in FILES:
        write_atomically(folder / name, [(source / name).read_bytes()])
    return [folder / name for name in FILES]
