"""Peers of other authors for the node, which `make test-ros` installs; else the tests are skipped.

They run in a network namespace of their own, whose only interface is the loopback.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

VARIABLE = "BEVSTACK_ROS_PEERS"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if VARIABLE in os.environ:
        return
    skip = pytest.mark.skip(reason="needs programs of ROS that `make test-ros` installs and names")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def peers() -> Path:
    """The folder of the installed peers."""
    return Path(os.environ[VARIABLE]).resolve()


class Drive(NamedTuple):
    """A drive of 16 cycles of six cameras at 10 Hz, and weights of a small model."""

    root: Path  # its tables and pictures
    ros2: Path
    ros1: Path
    weights: Path


CYCLES, CAMERAS = 16, 6


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    from bevstack.export.drive_bag import write_drive_bag
    from bevstack.export.messages.store import open_store
    from bevstack.models.build import save_model
    from bevstack.runtime.detector import build
    from bevstack.tables.reader import Tables
    from tests.export.drives import SCENE, VERSION_NAME, write_swept_root
    from tests.runtime.test_streaming import temporal

    folder = tmp_path_factory.mktemp("drive")
    root = write_swept_root(folder / "root")
    tables = Tables(root, VERSION_NAME)
    made = Drive(root, folder / "drive.mcap", folder / "drive.bag", folder / "small.safetensors")
    write_drive_bag(made.ros2, tables, SCENE, open_store())
    write_drive_bag(made.ros1, tables, SCENE, open_store("noetic"))
    config = temporal()
    save_model(made.weights, build(config).model, config)
    return made
