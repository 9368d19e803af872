"""Boxes of the node equal those of offline prediction on the same pixels, live over DDS too."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("cyclonedds", reason="needs cyclonedds: pip install 'bevstack[ros]'")
pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.store import open_store
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.dds import DdsTransport
from bevstack.runtime.ros.managed_node import ManagedNode
from bevstack.runtime.ros.quality import RESULTS
from bevstack.runtime.ros.wiring import make_node
from bevstack.synthetic import WorldSpec, make_world
from bevstack.tables.reader import Tables
from bevstack.types import Frame
from tests.export.bags import stamp_us
from tests.runtime.ros.bags import assert_equal_boxes, on_topic, replay
from tests.runtime.ros.domains import own_domain
from tests.runtime.ros.drive_frames import frames_at_front
from tests.runtime.test_streaming import temporal

FRAMES = 4
REDUCTION = 4  # of 360 x 640 pixels, 256 rows of which are kept, for a model of 64 x 160
VERSION = "v1.0-synth"
DETECTIONS = "vision_msgs/msg/Detection3DArray"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = WorldSpec(
        train_scenes=0, val_scenes=1, samples_per_scene=FRAMES, image_size=(360, 640), seed=4
    )
    path = tmp_path_factory.mktemp("large") / "root"
    make_world(path, spec)
    return path


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Return a detector whose boxes depend on the pixels, as those of new weights do not."""
    detector = build(temporal())
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in detector.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    return detector


def write_bag(root: Path, path: Path, *, raw: bool = False) -> Path:
    tables = Tables(root, VERSION)
    write_drive_bag(path, tables, str(tables.scenes.name[0]), open_store(), raw=raw)
    return path


def assert_predicted_boxes(frames: list[Frame], detector: Detector, messages: list[Any]) -> None:
    stream = detector.stream()
    assert len(messages) == len(frames) == FRAMES
    for frame, message in zip(frames, messages, strict=True):
        assert stamp_us(message.header.stamp) == frame.timestamp_us
        assert_equal_boxes(message, stream.step(frame))
    assert stream.reset.name == "NONE"  # history was used


@pytest.mark.parametrize("raw", [False, True])
def test_images_are_decoded_as_in_offline_prediction(
    root: Path, detector: Detector, tmp_path: Path, raw: bool
) -> None:
    bag = write_bag(root, tmp_path / "d.mcap", raw=raw)
    settings = {"image_transport": "raw"} if raw else None
    parts, published = replay(bag, detector, settings)
    frames = frames_at_front(root, detector, reduced=not raw)
    assert_predicted_boxes(frames, detector, list(on_topic(published, "detections")))
    # Full decoding gives other pixels, and so other boxes: the comparison above can fail.
    decoded_otherwise = [
        detector.stream().step(f) for f in frames_at_front(root, detector, reduced=raw)[:1]
    ]
    own = detector.stream().step(frames[0])
    assert float((decoded_otherwise[0].boxes.center - own.boxes.center).abs().max()) > 1e-3
    height = 360 if raw else 360 // REDUCTION
    result = parts.core.last_result
    assert result is not None
    assert {i.shape[0] for i in result.frame.images if i is not None} == {height}


@pytest.mark.slow  # DDS loses messages where other tests take the processor
@pytest.mark.parametrize("raw", [False, True])
def test_live_results_over_dds_equal_those_of_offline_prediction(
    root: Path, detector: Detector, tmp_path: Path, raw: bool
) -> None:
    bag = write_bag(root, tmp_path / "d.mcap", raw=raw)
    store, domain = open_store(), own_domain(2 + raw)
    transport = DdsTransport(store, domain=domain)
    transport_name = "raw" if raw else "compressed"
    settings: dict[str, object] = {
        "use_sim_time": True,
        "image_transport": transport_name,
        "sync_timeout_ms": 400,
        "max_age_ms": 60_000,
    }
    quality = {"reliability": "reliable", "depth": 100}
    images = Parameters(settings).cameras
    for name in images:
        topic = f"/{name}/image_raw" + ("" if raw else "/compressed")
        for policy, value in quality.items():
            settings[f"qos_overrides.{topic}.subscription.{policy}"] = value
            settings[f"qos_overrides./{name}/camera_info.subscription.{policy}"] = value
    parts = make_node(detector, Parameters(settings), store, model="model", times=True)
    node = ManagedNode(parts, transport)
    messages: list[Any] = []
    transport.subscribe(
        "/bevstack/detections",
        DETECTIONS,
        replace(RESULTS, depth=100),
        lambda data: messages.append(store.from_bytes(data, DETECTIONS)),
    )
    node.start()
    ended = threading.Event()
    runner = threading.Thread(target=node.run_until, args=(ended,))
    runner.start()
    options = ("--bag", str(bag), "--rate", "0.2", "--domain", str(domain), "--wait", "60")
    command = [sys.executable, "-m", "bevstack", "play-bag", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    ended.set()
    runner.join(30)
    assert parts.core.counts.skipped == 0
    assert_predicted_boxes(frames_at_front(root, detector, reduced=not raw), detector, messages)


def test_a_second_transport_on_a_domain_is_named() -> None:
    store, domain = open_store(), own_domain(5)
    first = DdsTransport(store, domain=domain)
    with pytest.raises(ValueError, match=f"one transport in a process; got {domain} twice"):
        DdsTransport(store, domain=domain)
    first.close()
    first.close()
    first.publish_bytes("/a", "std_msgs/msg/String", b"")  # nothing, as it is closed
    second = DdsTransport(store, domain=domain)
    second.advertise("/a", "std_msgs/msg/String")
    second.close()
