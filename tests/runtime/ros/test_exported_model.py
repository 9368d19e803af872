"""A node on an exported model: boxes of its streams, the rules of its history, its limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.store import open_store
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.exported import ExportedDetector
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.wiring import make_node
from bevstack.synthetic import WorldSpec, make_world
from bevstack.tables.reader import Tables
from bevstack.types import Frame, Reset
from tests.export.bags import stamp_us
from tests.runtime.ros.bags import assert_equal_boxes, copy_bag, on_topic, replay
from tests.runtime.ros.drive_frames import frames_at_front
from tests.runtime.test_exported import session_of
from tests.runtime.test_streaming import temporal

FRAMES = 4
VERSION = "v1.0-synth"
CUT_US = 20_000_000  # a jump of the recorded times, after which a history must not be used


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drive") / "root"
    make_world(path, WorldSpec(train_scenes=0, val_scenes=1, samples_per_scene=FRAMES, seed=6))
    return path


@pytest.fixture(scope="module")
def weights() -> Detector:
    """Return a detector whose boxes depend on the pixels, as those of new weights do not."""
    detector = build(temporal())
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in detector.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    return detector


@pytest.fixture(scope="module")
def bag(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = Tables(root, VERSION)
    path = tmp_path_factory.mktemp("bag") / "drive.mcap"
    write_drive_bag(path, tables, str(tables.scenes.name[0]), open_store())
    return path


def exported(weights: Detector, frame: Frame, *, stream: bool) -> ExportedDetector:
    return ExportedDetector(session_of(weights, frame, stream=stream))


@pytest.mark.parametrize("stream", [True, False])
def test_the_node_publishes_the_boxes_of_the_models_streams(
    root: Path, bag: Path, weights: Detector, stream: bool
) -> None:
    frames = frames_at_front(root, weights, reduced=True)
    detector = exported(weights, frames[0], stream=stream)
    parts, published = replay(bag, detector)
    messages = list(on_topic(published, "detections"))
    assert len(messages) == len(frames) == FRAMES
    own, without_history = detector.stream(), detector.stream()
    for frame, message in zip(frames, messages, strict=True):
        assert stamp_us(message.header.stamp) == frame.timestamp_us
        assert_equal_boxes(message, own.step(frame))
    assert own.reset is Reset.NONE and parts.core.counts.refused == 0
    # With a memory, the last boxes need the frames before: the comparison above can fail.
    alone = without_history.step(frames[-1])
    last = messages[-1].detections
    scores = sorted((box.results[0].hypothesis.score for box in last), reverse=True)
    found = torch.tensor(scores)
    is_equal = len(found) == len(alone) and torch.allclose(found, alone.scores, atol=1e-5)
    assert is_equal is not stream


def test_a_cut_drive_starts_without_history(
    root: Path, bag: Path, weights: Detector, tmp_path: Path
) -> None:
    frames = frames_at_front(root, weights, reduced=True)
    detector = exported(weights, frames[0], stream=True)
    cut_us = frames[2].timestamp_us - 250_000

    def shift(topic: str, time_us: int, message: Any) -> list[tuple[int, Any]]:
        parts = message.transforms if hasattr(message, "transforms") else [message]
        if time_us < cut_us or topic == "/tf_static":
            return [(time_us, message)]
        for part in parts:
            part.header.stamp.sec += CUT_US // 1_000_000
        return [(time_us + CUT_US, message)]

    copy_bag(bag, tmp_path / "cut.mcap", shift)
    parts, published = replay(tmp_path / "cut.mcap", detector)
    messages = list(on_topic(published, "detections"))
    assert parts.core.counts.restarts == 1
    stream = detector.stream()
    for frame, message in zip(frames[2:], messages[2:], strict=True):
        assert_equal_boxes(message, stream.step(frame))


def test_a_frame_without_a_pose_runs_alone(
    root: Path, bag: Path, weights: Detector, tmp_path: Path
) -> None:
    frames = frames_at_front(root, weights, reduced=True)
    detector = exported(weights, frames[0], stream=True)

    def without_poses(topic: str, time_us: int, message: Any) -> list[tuple[int, Any]]:
        return [] if topic == Parameters()["odometry_topic"] else [(time_us, message)]

    copy_bag(bag, tmp_path / "still.mcap", without_poses)
    parts, published = replay(tmp_path / "still.mcap", detector)
    messages = list(on_topic(published, "detections"))
    assert len(messages) == parts.core.counts.without_pose == FRAMES
    assert parts.core.counts.refused == 0
    for frame, message in zip(frames, messages, strict=True):
        still = replace(frame, world_from_ego=None, world_from_ego_at_camera=None)
        assert_equal_boxes(message, detector.predict(still))


def test_more_cameras_than_the_model_takes_are_refused(root: Path, weights: Detector) -> None:
    detector = exported(weights, frames_at_front(root, weights, reduced=True)[0], stream=True)
    names = [f"c{number}" for number in range(9)]
    with pytest.raises(
        ValueError,
        match="parameter cameras must name at most 8 cameras, as the exported model takes; got 9: "
        "export it with --cameras 9",
    ):
        make_node(detector, Parameters({"cameras": names}), open_store(), model="m", times=False)
