"""The launch file, the views and the parameters name what the node has, with the right types."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.cli.main import build_parser
from bevstack.export.messages.store import open_store
from bevstack.runtime.node.parameters import Parameters, parse_setting, read_parameters
from bevstack.runtime.ros.publishing import DIAGNOSTICS_TOPIC
from bevstack.runtime.ros.share import FILES, FOXGLOVE, LAUNCH, PARAMETERS, RVIZ, copy_files
from bevstack.runtime.ros.subscriptions import subscriptions
from bevstack.runtime.ros.wiring import make_node
from tests.runtime.node.inputs import FakeDetector
from tests.sources import ROOT

TYPES_OF_RVIZ = {
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/Image": "sensor_msgs/msg/CompressedImage",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("share") / "ros"
    assert copy_files(path) == [path / name for name in FILES]
    return path


@pytest.fixture(scope="module")
def topics() -> dict[str, str]:
    """Return the types of the topics of a node without parameters."""
    parameters, store = Parameters(), open_store()
    parts = make_node(FakeDetector(), parameters, store, model="fake", times=True)
    found = {s.topic: s.type_name for s in subscriptions(parameters)}
    return {
        **found,
        **dict(parts.publisher.advertised()),
        DIAGNOSTICS_TOPIC: "diagnostic_msgs/msg/DiagnosticArray",
    }


@dataclass
class Recorded:
    """Action or substitution of `launch` that keeps its arguments."""

    args: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


def recorder(*args: Any, **options: Any) -> Recorded:
    return Recorded(args, options)


@pytest.fixture
def described(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    """Return the actions of the launch file, with `launch` replaced by a recorder."""
    names = {
        "launch": ["LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "ExecuteProcess"],
        "launch.conditions": ["IfCondition"],
        "launch.substitutions": ["EnvironmentVariable", "LaunchConfiguration"],
    }
    for name, members in names.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member, recorder)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("launch_file", folder / LAUNCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (actions,) = module.generate_launch_description().args
    return list(actions)


def test_the_launch_file_starts_the_node_with_options_and_parameters_that_it_has(
    described: list[Recorded], folder: Path
) -> None:
    defaults = {
        action.args[0]: action.options["default_value"]
        for action in described
        if "default_value" in action.options
    }
    defaults["ROS_DOMAIN_ID"] = "7"

    def text(part: Any) -> str:
        """Return a word of a command with the default of each argument."""
        if isinstance(part, list):
            return "".join(map(text, part))
        return defaults[part.args[0]] if isinstance(part, Recorded) else part

    node, rviz = (
        [text(word) for word in a.options["cmd"]] for a in described if "cmd" in a.options
    )
    arguments = build_parser().parse_args(node[1:])
    assert node[0] == "bevstack" and arguments.dds and arguments.domain == 7
    parameters = read_parameters(arguments.params)
    for setting in arguments.set:
        parameters.set(*parse_setting(setting))
    assert arguments.params == folder / PARAMETERS and parameters["use_sim_time"] is False
    assert str(arguments.weights) == "tiny_cpu_t4" and arguments.interface == "auto"
    assert rviz == ["rviz2", "-d", str(folder / RVIZ)]


def test_the_parameters_are_those_of_the_node(folder: Path) -> None:
    found, default = read_parameters(folder / PARAMETERS), Parameters()
    content = yaml.safe_load((folder / PARAMETERS).read_text())["/**"]["ros__parameters"]
    changed = {name for name in content if found[name] != default[name]}
    assert len(content) >= 10 and changed == {"score_threshold"}


def test_the_view_of_rviz_shows_topics_of_the_node(folder: Path, topics: dict[str, str]) -> None:
    content = yaml.safe_load((folder / RVIZ).read_text())["Visualization Manager"]
    displays = [display for display in content["Displays"] if "Topic" in display]
    assert len(displays) == 7
    for display in displays:
        assert topics[display["Topic"]["Value"]] == TYPES_OF_RVIZ[display["Class"]]
        # A reliable subscriber gets nothing from cameras that publish best effort.
        is_image = display["Class"].endswith("Image")
        assert display["Topic"]["Reliability Policy"] == ("Best Effort" if is_image else "Reliable")
    assert content["Global Options"]["Fixed Frame"] == Parameters()["base_frame"]


def test_the_layout_of_foxglove_shows_topics_of_the_node(
    folder: Path, topics: dict[str, str]
) -> None:
    content = json.loads((folder / FOXGLOVE).read_text())
    panels = content["configById"]
    assert sorted(leaves(content["layout"])) == sorted(panels) and len(panels) == 10
    shown = {name: [*panel.get("topics", {}), *texts(panel)] for name, panel in panels.items()}
    for name, found in shown.items():
        assert found, name
        for topic in found:
            assert topic in topics, (name, topic)
    assert topics[panels["DiagnosticSummary!states"]["topicToRender"]].endswith("DiagnosticArray")
    for name, panel in panels.items():
        if name.startswith("Image!"):
            mode = panel["imageMode"]
            assert topics[mode["imageTopic"]].endswith("CompressedImage")
            assert topics[mode["calibrationTopic"]].endswith("CameraInfo")
            assert mode["imageTopic"].startswith(f"/{name.partition('!')[2]}/")
        for path in panel.get("paths", []):
            topic, _, member = path["value"].rpartition(".")
            assert topics[topic].endswith("Float64Stamped") and member == "data"
        assert all(topics[topic].endswith("MarkerArray") for topic in panel.get("topics", {}))


def test_the_files_are_part_of_the_package() -> None:
    patterns = re.findall(r'"(\*\.[a-z]+)"', (ROOT / "setup.py").read_text("utf-8"))
    assert all(any(fnmatch.fnmatch(n, p) for p in (*patterns, "*.py")) for n in FILES)


def leaves(layout: Any) -> Iterator[str]:
    """Yield the panels of a layout."""
    if isinstance(layout, str):
        yield layout
    else:
        yield from leaves(layout["first"])
        yield from leaves(layout["second"])


def texts(panel: Any) -> Iterator[str]:
    """Yield the topics among the texts of a panel, without the member of a message."""
    if isinstance(panel, str) and panel.startswith("/"):
        yield panel.partition(".")[0]
    for value in panel.values() if isinstance(panel, dict) else ():
        yield from texts(value)
    for value in panel if isinstance(panel, list) else ():
        yield from texts(value)
