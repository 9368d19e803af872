"""Moments of a node's messages are those of its own results, and of the images that it took."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.bag import Publication
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.status import Status, make_diagnostics
from bevstack.export.messages.store import open_store
from bevstack.geometry import invert_se3
from bevstack.runtime.detector import Detector
from bevstack.runtime.loading import load
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.replay import NodeParts
from bevstack.tables.reader import Tables
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.moment import NO_IDENTITY, Moment
from bevstack.viewer.node_moments import PARTS, NodeMoments
from tests.export.drives import SCENE, VERSION_NAME, write_swept_root
from tests.runtime.node.inputs import FakeDetector
from tests.runtime.ros.bags import replay
from tests.runtime.traffic_weights import write_both
from tests.uncertainty.rigs import odd_sector_model

STORE = open_store()
Message = tuple[int, int, str, str, bytes]  # microseconds, order, topic, type, data


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_swept_root(tmp_path_factory.mktemp("swept"))
    write_drive_bag(root / "drive.mcap", Tables(root, VERSION_NAME), SCENE, STORE)
    return root / "drive.mcap"


@pytest.fixture(scope="module")
def replayed(
    bag: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[NodeParts, list[Publication]]:
    """The node and its messages, of a detector with tracks, cues and trust in sectors."""
    loaded = load(write_both(tmp_path_factory.mktemp("both") / "both.safetensors"))
    detector = Detector(
        loaded.model, loaded.config, further=loaded.further, sector_model=odd_sector_model()
    )
    return replay(bag, detector, store=STORE)


def inputs(bag: Path) -> Iterator[Message]:
    with BagReader(bag, STORE) as reader:
        for raw in reader.messages():
            yield raw.time_ns // 1000, 0, raw.topic, raw.type_name, raw.data


def outputs(publications: list[Publication]) -> Iterator[Message]:
    for p in publications:
        yield p.timestamp_us, 1, p.topic, p.message.__msgtype__, STORE.to_bytes(p.message)


def moments_of(
    bag: Path, publications: list[Publication], *, without: tuple[str, ...] = ()
) -> list[Moment]:
    """Return the moments of a node's inputs and outputs, in the order of their times."""
    drive, clock = GrowingDrive(), Clock()
    author = NodeMoments(Parameters(), STORE, drive=drive, clock=clock)
    topics = {topic: type_name for topic, type_name, _ in author.topics()}
    for time_us, _, topic, type_name, data in heapq.merge(inputs(bag), outputs(publications)):
        clock.now = 1e-6 * time_us
        if topic in topics and topic.rpartition("/")[2] not in without:
            assert topics[topic] == type_name
            author.receive(topic, type_name, data)
        author.settle()
    clock.now += 1
    author.settle()
    return [drive.moment("bevstack", i) for i in range(drive.first(), drive.count("bevstack"))]


@pytest.fixture(scope="module")
def shown(bag: Path, replayed: tuple[NodeParts, list[Publication]]) -> list[Moment]:
    return moments_of(bag, replayed[1])


def test_every_result_is_a_moment_with_the_tracks_of_the_node(
    shown: list[Moment], replayed: tuple[NodeParts, list[Publication]]
) -> None:
    parts, _ = replayed
    result = parts.core.last_result
    assert result is not None and result.tracks is not None and len(result.tracks) > 3
    assert len(shown) == parts.core.counts.steps > 10
    assert [at.index for at in shown] == list(range(len(shown)))
    last, pose = shown[-1], result.frame.world_from_ego
    assert last.timestamp_us == result.timestamp_us and pose is not None
    assert last.world_from_ego == pytest.approx(pose.numpy(), abs=1e-9)
    tracks = result.tracks.detections().boxes.transformed(invert_se3(pose))
    boxes = last.predicted[0].boxes
    assert boxes.center_m == pytest.approx(tracks.center.numpy(), abs=1e-6)
    assert boxes.size_m == pytest.approx(tracks.size.numpy(), abs=1e-6)
    assert boxes.velocity_mps == pytest.approx(tracks.velocity.numpy(), abs=1e-6)
    assert np.cos(boxes.yaw_rad - tracks.yaw.numpy()) == pytest.approx(1)
    assert boxes.label.tolist() == result.tracks.labels.tolist()
    assert last.predicted[0].score == pytest.approx(result.tracks.scores.numpy(), abs=1e-6)
    assert len(set(boxes.identity.tolist())) == len(boxes) and NO_IDENTITY not in boxes.identity
    ends = {t.identity: t.points_m[-1] for t in last.trails}
    rows = {identity: row for row, identity in enumerate(boxes.identity.tolist())}
    assert ends
    for identity, place in ends.items():
        assert place == pytest.approx(boxes.center_m[rows[identity]], abs=1e-6)


def test_trust_and_cues_are_those_of_the_node(
    shown: list[Moment], replayed: tuple[NodeParts, list[Publication]]
) -> None:
    result = replayed[0].core.last_result
    assert result is not None and result.state.sectors is not None
    last = shown[-1]
    assert last.sectors is not None and last.traffic is not None
    assert last.sectors.trust == pytest.approx(result.state.sectors.trust)
    assert last.traffic.ego_cues == result.state.ego_cues
    assert last.traffic.predicted is not None
    assert len(last.traffic.predicted) == len(result.state.cues)


def test_pictures_are_those_that_the_node_took_where_its_cameras_were(
    shown: list[Moment], bag: Path, replayed: tuple[NodeParts, list[Publication]]
) -> None:
    result = replayed[0].core.last_result
    assert result is not None
    data = {d: None for _, _, topic, _, d in inputs(bag) if topic.endswith("/compressed")}
    images = {bytes(STORE.from_bytes(d, "sensor_msgs/CompressedImage").data) for d in data}
    cameras = {camera.name: camera for camera in shown[-1].cameras}
    assert len(cameras) == len(result.frame.camera_names) == 6
    poses = result.frame.bev_from_cam().numpy()
    for name, pose, image in zip(
        result.frame.camera_names, poses, result.frame.images, strict=True
    ):
        camera = cameras[name]
        assert image is not None and camera.encoded in images
        assert camera.ego_from_cam == pytest.approx(pose, abs=1e-9)


def test_without_tracks_the_detections_are_shown_with_their_velocities(
    bag: Path, replayed: tuple[NodeParts, list[Publication]]
) -> None:
    parts, publications = replayed
    result = parts.core.last_result
    assert result is not None
    last = moments_of(bag, publications, without=("tracks",))[-1]
    boxes, own = last.predicted[0].boxes, result.detections.boxes
    assert len(boxes) == len(result.detections) and (boxes.identity == NO_IDENTITY).all()
    assert boxes.center_m == pytest.approx(own.center.numpy(), abs=1e-5)
    assert boxes.velocity_mps == pytest.approx(own.velocity.numpy(), abs=1e-4)
    assert last.predicted[0].score == pytest.approx(result.detections.scores.numpy(), abs=1e-6)
    bare = moments_of(bag, publications, without=("tracks", "objects", "sectors", "traffic_cues"))
    assert np.isnan(bare[-1].predicted[0].boxes.velocity_mps).all()
    assert bare[-1].sectors is None and bare[-1].traffic is None


def test_diagnostics_and_wrong_messages_are_notes(bag: Path) -> None:
    _, publications = replay(bag, FakeDetector(), store=STORE)
    own = [p for p in publications if p.topic != "/diagnostics"]
    statuses = [
        Status(name="bevstack: camera_CAM_BACK", level=1, message="late", hardware_id=""),
        Status(name="bevstack: inference", level=0, message="ok", hardware_id=""),
        Status(name="bevstack: motion", level=2, message="no pose", hardware_id=""),
    ]
    message = make_diagnostics(STORE, own[0].timestamp_us, statuses)
    first = Publication("/diagnostics", own[0].timestamp_us, message)
    assert moments_of(bag, [first, *own])[-1].notes == (
        "motion: no pose",
        "camera_CAM_BACK: late",
    )
    drive = GrowingDrive()
    author = NodeMoments(Parameters(), STORE, drive=drive, clock=Clock())
    author.receive("/bevstack/detections", "vision_msgs/msg/Detection3DArray", b"no message")
    for p in (p for p in own if p.timestamp_us == own[0].timestamp_us):
        author.receive(p.topic, p.message.__msgtype__, STORE.to_bytes(p.message))
    author.settle(everything=True)
    (note,) = drive.moment("bevstack", 0).notes
    assert note.startswith("/bevstack/detections: message must be a vision_msgs/msg/Detection3D")


def test_parts_that_come_late_are_waited_for_a_short_time(bag: Path) -> None:
    _, publications = replay(bag, FakeDetector(), store=STORE)
    own = [p for p in publications if p.topic in {f"/bevstack/{name}" for name in PARTS}]
    stamps = sorted({p.timestamp_us for p in own})
    drive, clock = GrowingDrive(), Clock()
    author = NodeMoments(Parameters(), STORE, drive=drive, clock=clock)

    def give(stamp: int, *names: str) -> None:
        for p in own:
            name = p.topic.rpartition("/")[2]
            if p.timestamp_us == stamp and (name in names or not names):
                author.receive(p.topic, p.message.__msgtype__, STORE.to_bytes(p.message))
        author.settle()

    give(stamps[0])
    assert drive.count("") == 0  # it is not known yet which parts there are
    clock.now = 0.4
    author.settle()
    assert drive.count("") == 1
    give(stamps[1], "tracks", "markers")
    give(stamps[1], "detections")
    assert drive.count("") == 1
    give(stamps[1], "objects")
    assert drive.count("") == 2  # all parts of the moment before are there
    give(stamps[0])
    clock.now = 1.0
    give(stamps[2], "detections")
    assert drive.count("") == 2  # not an earlier one again
    clock.now = 1.4
    author.settle()
    assert drive.count("") == 3
    assert (drive.moment("", 2).predicted[0].boxes.identity == NO_IDENTITY).all()


def test_trails_do_not_cross_from_one_drive_to_another(bag: Path) -> None:
    _, publications = replay(bag, FakeDetector(), store=STORE)
    found = moments_of(bag, publications)
    assert found[-1].trails and found[-1].surroundings.trail is not None
    drive, clock = GrowingDrive(), Clock()
    author = NodeMoments(Parameters(), STORE, drive=drive, clock=clock)
    for _ in range(2):
        for time_us, _, topic, type_name, data in heapq.merge(inputs(bag), outputs(publications)):
            clock.now = 1e-6 * time_us
            if topic in {name for name, _, _ in author.topics()}:
                author.receive(topic, type_name, data)
            author.settle()
        clock.now += 1
        author.settle()
    again: Any = drive.moment("bevstack", len(found))
    assert again.timestamp_us == found[0].timestamp_us
    assert not again.trails and again.surroundings.trail is None
