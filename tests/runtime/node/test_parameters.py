"""Parameters: kinds, ranges, names, files of ROS 2, and changes at run time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bevstack.runtime.node.parameters import (
    DECLARED,
    Parameters,
    parse_setting,
    read_parameters,
)
from bevstack.vocabulary import CAMERA_CHANNELS
from tests.sources import ROOT


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_parameter_has_a_description_and_a_default_that_it_accepts() -> None:
    names = [parameter.name for parameter in DECLARED]
    assert len(set(names)) == len(names) and len(names) >= 20
    for parameter in DECLARED:
        assert parameter.description and parameter.convert(parameter.default) == parameter.default


def test_a_file_of_ros_2_is_read(tmp_path: Path) -> None:
    text = (
        "/**:\n  ros__parameters:\n    cameras: [front, 'rear']\n    sync_timeout_ms: 80\n"
        "    use_sim_time: true\n    qos_overrides: {/tf: {subscription: {depth: 5}}}\n"
        "bevstack:\n  ros__parameters:\n    sync_timeout_ms: 90.5\n    image_transport: raw\n"
        "another_node:\n  ros__parameters:\n    unknown: 1\n"
    )
    found = read_parameters(write(tmp_path / "node.yaml", text))
    assert found.cameras == ("front", "rear") and found["use_sim_time"] is True
    assert found["sync_timeout_ms"] == 90.5 and found.microseconds("sync_timeout_ms") == 90_500
    assert found.image_topic("rear") == "/rear/image_raw"
    assert found.info_topic("rear") == "/rear/camera_info" and found.reference_camera == "front"
    assert found["max_age_ms"] == Parameters()["max_age_ms"]
    assert dict(found.qos_overrides) == {"/tf.subscription.depth": "5"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", r"must hold sections; got \['1', '2'\]"),
        ("a: {ros__parameters: {track: true}}", r"must have a section /\*\* or bevstack; got a"),
        ("bevstack: {track: true}", "must have ros__parameters"),
        ("/**: {ros__parameters: {trak: true}}", "got 'trak': did you mean track"),
        ("/**: {ros__parameters: {track: 3}}", "track must be true or false; got '3'"),
        ("/**: {ros__parameters: {max_age_ms: old}}", "max_age_ms must be a number; got 'old'"),
        ("/**: {ros__parameters: {max_age_ms: -1}}", "max_age_ms must be from 1 to 60000; got -1"),
        ("/**: {ros__parameters: {max_age_ms: nan}}", "max_age_ms must be from 1 to 60000"),
        ("/**: {ros__parameters: {image_transport: h264}}", "one of compressed, raw; got 'h264'"),
        ("/**: {ros__parameters: {cameras: a}}", "cameras must be a list of texts; got 'a'"),
        ("/**: {ros__parameters: {cameras: [a, a]}}", r"must be distinct names; got \['a', 'a'\]"),
        ("/**: {ros__parameters: {image_topics: [/x]}}", "must be one topic a camera, 6; got 1"),
        ("/**: {ros__parameters: {reference_camera: x}}", "reference_camera must be one of CAM_"),
        ("/**: {ros__parameters: {base_frame: [a]}}", "base_frame must be a text"),
        ("a: b: c", "must be YAML"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_parameters(write(tmp_path / "node.yaml", text))
    assert "node.yaml" in str(error.value) and "\n" not in str(error.value)


def test_topics_are_given_one_a_camera() -> None:
    topics = tuple(f"/cam{number}/image" for number in range(6))
    found = Parameters({"image_topics": topics, "image_transport": "compressed"})
    assert found.image_topic(CAMERA_CHANNELS[2]) == "/cam2/image/compressed"


def test_a_configured_node_refuses_other_cameras_but_takes_another_threshold() -> None:
    found = Parameters()
    found.configured()
    found.set("score_threshold", 0.4)
    found.set("cameras", CAMERA_CHANNELS)  # unchanged
    assert found["score_threshold"] == 0.4
    with pytest.raises(ValueError, match="cameras must be set before the node starts"):
        found.set("cameras", ["front"])
    with pytest.raises(ValueError, match="score_threshold must be from 0 to 1; got 2"):
        found.set("score_threshold", 2)
    with pytest.raises(ValueError, match="score_threshold must be a number; got True"):
        found.set("score_threshold", True)
    assert found["score_threshold"] == 0.4


def test_a_setting_of_the_command_line_is_parsed_by_its_kind() -> None:
    assert parse_setting("cameras=a,b") == ("cameras", ["a", "b"])
    assert parse_setting("base_frame=a=b") == ("base_frame", "a=b")
    with pytest.raises(ValueError, match="must be given as NAME=VALUE; got 'track'"):
        parse_setting("track")


def test_the_page_of_the_node_lists_every_parameter_with_its_default() -> None:
    page = (ROOT / "docs" / "node.md").read_text("utf-8").split("## Parameters")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    for parameter in DECLARED:
        default = parameter.default
        if isinstance(default, tuple):
            text = ", ".join(default) or "none"
        elif isinstance(default, bool):
            text = str(default).lower()
        else:
            text = f"{default:g}" if isinstance(default, float) else str(default) or "none"
        assert rows.pop(parameter.name) == text, parameter.name
        assert f"| {parameter.description}" in page
    assert rows == {}
