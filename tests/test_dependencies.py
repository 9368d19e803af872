"""Packages that are imported are declared, and extras that are declared are used."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from bevstack.cli import diagnosis, errors
from tests.sources import PACKAGE_FILES, PROGRAM_FILES, ROOT, TEST_FILES

# Module -> distribution, where the names differ.
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "nuscenes": "nuscenes-devkit",
    "pyquaternion": "nuscenes-devkit",  # which needs it and passes it on
    "websockets": "viser",  # likewise
    "zstandard": "viser",
    "osi3": "osi-python",
    "osi3trace": "osi-python",
    "mcap_ros2": "mcap-ros2-support",
    "google": "protobuf",
    "open3d": "open3d-cpu",
    "rerun": "rerun-sdk",
    "onnx_ir": "onnx-ir",
}
# Imported only where it is installed, with a remedy or a skip if it is not.
# launch: of an installation of ROS 2, which reads the launch file.
# _typeshed: known to type checkers alone.
# rospy, rosgraph, genpy and the packages of messages: of an installation of ROS 1.
# rclpy, rcl_interfaces: of an installation of ROS 2.
# imagecorruptions: of an environment of its own, since it needs numpy < 2.
# mm*: of the environment of `make test-mmdet3d`, as mmcv has no wheel that pip finds.
# vcd: make installs it without its dependencies of 536 MB, which no extra can express.
ROS = {
    "launch",
    "rclpy",
    "rcl_interfaces",
    "rospy",
    "rosgraph",
    "genpy",
    "diagnostic_msgs",
    "visualization_msgs",
}
OPTIONAL = {"mmcv", "mmdet", "mmdet3d", "mmengine", "transformers", "timm", "vcd", "_typeshed"}
OPTIONAL |= {"imagecorruptions", *ROS}
OWN = {"bevstack", "tests", "ops", "benchmarks", "tools", "visualize", "data", "configs", "setup"}
tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names_of(requirements: list[str]) -> set[str]:
    """Return the distributions of requirements, without versions and markers."""
    found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {match[0].lower() for match in found if match is not None}


def distributions_of(files: list[Path]) -> dict[str, str]:
    """Return the imported distributions outside the standard library, each with one importer."""
    imported = {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            else:
                continue
            for module in (name.partition(".")[0] for name in modules):
                if module not in sys.stdlib_module_names and module not in OWN:
                    imported[DISTRIBUTIONS.get(module, module).lower()] = path.name
    return imported


@pytest.mark.parametrize(
    ("files", "extras"),
    [
        (PACKAGE_FILES, tuple(EXTRAS.keys() - {"test", "dev"})),
        ((*TEST_FILES, *PROGRAM_FILES), tuple(EXTRAS)),
    ],
    ids=["package", "tests and programs"],
)
def test_every_imported_package_is_declared(files: list[Path], extras: tuple[str, ...]) -> None:
    declared = names_of(PROJECT["dependencies"])
    declared |= {name for extra in extras for name in names_of(EXTRAS[extra])} | OPTIONAL
    imported = distributions_of(list(files))
    assert "numpy" in imported
    assert {name: path for name, path in imported.items() if name not in declared} == {}


def test_every_extra_of_a_user_is_imported_and_known_to_the_doctor() -> None:
    for_users = set(EXTRAS) - {"test", "dev"}
    assert set(diagnosis.EXTRAS) == for_users
    assert {extra for _, extra in errors.MODULE_EXTRAS} == for_users
    imported = distributions_of(list(PACKAGE_FILES))
    assert all(main in imported or main == "tensorboard" for main, _ in diagnosis.EXTRAS.values())


def test_the_pages_name_only_layers_that_exist() -> None:
    for page in (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"):
        text = page.read_text("utf-8")
        names = set(re.findall(r"`(?:bevstack/)?(\w+)/`", text)) - {"build"}
        for row in re.findall(r"^\| \d+ \| (.*) \|$", text, re.MULTILINE):
            names |= set(re.findall(r"`(\w+)`", row))
        for name in names:
            places = [
                ROOT / name,
                *ROOT.glob(f"bevstack/**/{name}"),
                ROOT / "bevstack" / f"{name}.py",
            ]
            assert any(place.exists() for place in places), f"{page.name}: {name}"
