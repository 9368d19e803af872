"""Bags replayed through the node: equal to offline prediction, and read by other programs."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from rosbags.highlevel import AnyReader

from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.sensors import make_clock
from bevstack.export.messages.store import open_store
from bevstack.runtime.detector import build
from bevstack.runtime.frame_source import open_frames
from bevstack.runtime.loading import load
from bevstack.runtime.tracked import TrackedDetector
from bevstack.tables.reader import Tables
from tests.export.bags import read_mcap, stamp_us
from tests.export.drives import SCENE, VERSION_NAME, write_swept_root
from tests.runtime.node.inputs import FakeDetector
from tests.runtime.ros.bags import assert_equal_boxes, copy_bag, on_topic, replay
from tests.runtime.test_streaming import temporal
from tests.runtime.traffic_weights import write_both
from tests.tables.tiny_root import read_table

CYCLES = 16
PERIOD_S = 0.1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_swept_root(tmp_path_factory.mktemp("swept"))


@pytest.fixture(scope="module")
def bag(root: Path) -> Path:
    path = root / "drive.mcap"
    write_drive_bag(path, Tables(root, VERSION_NAME), SCENE, open_store())
    return path


def write_frames(root: Path, folder: Path) -> Path:
    """Write the drive as a rig file and a table of frames, each at its front camera's time."""
    poses = {row["token"]: row for row in read_table(root, "ego_pose")}
    sensors = {row["token"]: row["channel"] for row in read_table(root, "sensor")}
    calibrations = {row["token"]: row for row in read_table(root, "calibrated_sensor")}
    cycles: dict[int, dict[str, Any]] = {}
    cameras = {}
    for row in read_table(root, "sample_data"):
        calibration = calibrations[row["calibrated_sensor_token"]]
        channel = sensors[calibration["sensor_token"]]
        if SCENE not in row["filename"] or "CAM" not in channel:
            continue
        pose = poses[row["ego_pose_token"]]
        # The handmade cameras fire 7 ms apart, before the time of their sample.
        cycle = -(-(row["timestamp"] - 1_600_000_000_000_000) // 100_000)
        cycles.setdefault(cycle, {})[channel] = {
            "image": str(root / row["filename"]),
            "timestamp_us": row["timestamp"],
            "world_from_ego": {
                "rotation_wxyz": pose["rotation"],
                "translation_m": pose["translation"],
            },
        }
        cameras[channel] = {
            "name": channel,
            "width": row["width"],
            "height": row["height"],
            "intrinsics": calibration["camera_intrinsic"],
            "ego_from_cam": {
                "rotation_wxyz": calibration["rotation"],
                "translation_m": calibration["translation"],
            },
        }
    frames = [
        {
            "timestamp_us": own["CAM_FRONT"]["timestamp_us"],
            "world_from_ego": own["CAM_FRONT"]["world_from_ego"],
            "cameras": own,
        }
        for _, own in sorted(cycles.items())
    ]
    order = ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT")
    rig = {"format": "bevstack-rig-1", "cameras": [cameras[f"CAM_{name}"] for name in order]}
    folder.mkdir()
    (folder / "rig.json").write_text(json.dumps(rig))
    table = {"format": "bevstack-frames-1", "frames": frames}
    (folder / "frames.json").write_text(json.dumps(table))
    return folder


def test_boxes_and_tracks_equal_those_of_offline_prediction(
    root: Path, bag: Path, tmp_path: Path
) -> None:
    detector = build(temporal())
    _, published = replay(bag, detector)
    folder = write_frames(root, tmp_path / "frames")
    source = open_frames(folder / "rig.json", folder, allow_outside=True)
    stream, tracked = detector.stream(), TrackedDetector(detector).stream()
    boxes = list(on_topic(published, "detections"))
    tracks = list(on_topic(published, "tracks"))
    frames = list(source.frames())
    assert len(boxes) == len(tracks) == len(frames) == CYCLES
    for frame, message, track_message in zip(frames, boxes, tracks, strict=True):
        expected = stream.step(frame)
        tracked.step(frame)
        assert stamp_us(message.header.stamp) == frame.timestamp_us
        assert_equal_boxes(message, expected)
        ids = [bytes(track.object_id.uuid) for track in track_message.objects]
        assert len(set(ids)) == len(ids) == len(tracked.tracks)
        scores = [track.existence_probability for track in track_message.objects]
        assert scores == pytest.approx(tracked.tracks.scores.tolist(), abs=1e-5)
    assert stream.reset.name == "NONE"  # history was used


def test_the_same_bag_gives_the_same_bytes_that_other_programs_read(
    bag: Path, tmp_path: Path
) -> None:
    store = open_store()
    for name in ("a", "b"):
        _, published = replay(bag, FakeDetector())
        write_bag(tmp_path / f"{name}.mcap", published, store)
    assert (tmp_path / "a.mcap").read_bytes() == (tmp_path / "b.mcap").read_bytes()
    counts = Counter(message.topic for message in read_mcap(tmp_path / "a.mcap"))
    names = ("detections", "objects", "tracks", "predicted", "markers")
    expected = {f"/bevstack/{name}": CYCLES for name in names}
    # Each 0.5 s of 1.5 s, and at the end
    assert counts == {**expected, "/diagnostics": 4}
    with AnyReader([tmp_path / "a.mcap"]) as reader:
        found = Counter(
            (c.topic, type(reader.deserialize(data, c.msgtype)).__name__)
            for c, _, data in reader.messages()
        )
    assert sum(found.values()) == sum(counts.values()) == len(published)


def test_results_have_the_stamp_of_the_front_camera_and_come_in_time(bag: Path) -> None:
    _, published = replay(bag, FakeDetector())
    results = [p for p in published if p.topic == "/bevstack/objects"]
    stamps = [stamp_us(p.message.header.stamp) for p in results]
    assert np.diff(stamps).tolist() == [100_000] * (CYCLES - 1)
    assert all(p.message.header.frame_id == "base_link" for p in results)
    delays = [p.timestamp_us - stamp for p, stamp in zip(results, stamps, strict=True)]
    assert min(delays) >= 0 and max(delays) <= 61_000


def test_ros_1_bags_are_read_and_written(root: Path, tmp_path: Path) -> None:
    noetic = open_store("noetic")
    path = tmp_path / "drive.bag"
    write_drive_bag(path, Tables(root, VERSION_NAME), SCENE, noetic, raw=True)
    _, published = replay(path, FakeDetector(), {"image_transport": "raw"}, store=noetic)
    write_bag(tmp_path / "out.bag", published, noetic)
    with AnyReader([tmp_path / "out.bag"]) as reader:
        counts = Counter(c.topic for c, _, _ in reader.messages())
    expected = {f"/bevstack/{name}": CYCLES for name in ("detections", "markers")}
    assert counts == {**expected, "/diagnostics": 4}


def test_raw_and_compressed_pictures_give_equal_boxes(
    root: Path, bag: Path, tmp_path: Path
) -> None:
    path = tmp_path / "raw.db3"
    write_drive_bag(path, Tables(root, VERSION_NAME), SCENE, open_store(), raw=True)
    raw, files = FakeDetector(), FakeDetector()
    replay(path, raw, {"image_transport": "raw"})
    replay(bag, files)
    assert len(raw.frames) == len(files.frames) == CYCLES
    for one, other in zip(raw.frames, files.frames, strict=True):
        for left, right in zip(one.images, other.images, strict=True):
            assert np.array_equal(left, right)  # type: ignore[arg-type]


def test_a_camera_that_fails_in_a_bag_is_named_within_a_second(bag: Path, tmp_path: Path) -> None:
    start_us = 1_600_000_000_000_000

    def change(topic: str, time_us: int, message: Any) -> list[tuple[int, Any]]:
        fails = topic.startswith("/CAM_BACK_LEFT/image") and time_us > start_us + 400_000
        if not fails:
            return [(time_us, message)]
        return [(time_us, dataclasses.replace(message, data=message.data[:300]))]

    copy_bag(bag, tmp_path / "faulty.mcap", change)
    parts, published = replay(tmp_path / "faulty.mcap", FakeDetector())
    assert parts.core.counts.steps == CYCLES
    named = [
        (p.timestamp_us, status.level, status.message)
        for p in published
        if p.topic == "/diagnostics"
        for status in p.message.status
        if status.name == "bevstack: camera_CAM_BACK_LEFT"
    ]
    first = min(time_us for time_us, level, _ in named if level == 2)
    assert first - start_us <= 1_400_000
    assert "rejected: compressed image must be whole" in named[-1][2]


def test_messages_that_are_none_are_counted_and_named(bag: Path, tmp_path: Path) -> None:
    def change(topic: str, time_us: int, message: Any) -> list[tuple[int, Any]]:
        if topic.startswith("/CAM_BACK/image"):
            message.header.stamp.nanosec += 1_000_000_000
        return [(time_us, message)]

    copy_bag(bag, tmp_path / "odd.mcap", change)
    parts, published = replay(tmp_path / "odd.mcap", FakeDetector())
    assert parts.core.counts.undecodable == {"/CAM_BACK/image_raw/compressed": CYCLES}
    assert parts.core.counts.steps == CYCLES
    last = {s.name: s.message for s in list(on_topic(published, "/diagnostics"))[-1].status}
    assert "nanoseconds below 1000000000; got" in last["bevstack: camera_CAM_BACK"]
    assert last["bevstack: messages"].startswith("/CAM_BACK/image_raw/compressed: stamp must")


def test_simulated_time_starts_with_the_first_clock(bag: Path, tmp_path: Path) -> None:
    store = open_store()
    start_us = 1_600_000_000_000_000
    with pytest.raises(ValueError, match="must hold /clock for use_sim_time; got none"):
        replay(bag, FakeDetector(), {"use_sim_time": True})
    pending: list[Publication] = []

    def change(topic: str, time_us: int, message: Any) -> list[tuple[int, Any]]:
        pending.append(Publication(topic, time_us + 10**12, message))  # recorded much later
        return []

    copy_bag(bag, tmp_path / "empty.mcap", change)
    clocks = [
        Publication("/clock", time_us + 10**12, make_clock(store, time_us))
        for time_us in range(start_us + 450_000, start_us + 1_600_000, 5_000)
    ]
    ordered = sorted([*pending, *clocks], key=lambda publication: publication.timestamp_us)
    write_bag(tmp_path / "clock.mcap", ordered, store)
    parts, published = replay(tmp_path / "clock.mcap", FakeDetector(), {"use_sim_time": True})
    assert parts.core.counts.steps == 11  # of 16: the clock starts after the fifth
    assert min(p.timestamp_us for p in published) >= start_us + 450_000
    assert max(p.timestamp_us for p in published) <= start_us + 1_600_000


def test_lights_and_signs_are_published_if_the_weights_have_them(bag: Path, tmp_path: Path) -> None:
    detector = load(write_both(tmp_path / "both.safetensors"))
    _, published = replay(bag, detector, {"light_ids": "hash"})
    entries = [json.loads(m.data) for m in on_topic(published, "traffic_cues")]
    assert len(entries) == CYCLES and all(entry["ego_cues"] for entry in entries)
    lights = list(on_topic(published, "traffic_lights"))
    assert len(lights) == sum(
        any(cue["kind"] == "light" for cue in entry["cues"]) for entry in entries
    )
    last = {s.name: s.message for s in list(on_topic(published, "/diagnostics"))[-1].status}
    assert "straight: " in last["bevstack: traffic"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cameras": ["front"]}, "must hold one of the topics /front/image_raw/compressed; got im"),
        ({"image_transport": "raw"}, "must hold one of the topics /CAM_BACK/image_raw, "),
        ({"odometry_topic": "/tf"}, "topic /tf must be nav_msgs/msg/Odometry; got tf2_msgs"),
    ],
)
def test_topics_that_do_not_fit_are_named(
    bag: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replay(bag, FakeDetector(), settings)


def test_a_damaged_bag_is_named(bag: Path, tmp_path: Path) -> None:
    data = bag.read_bytes()
    for name, content in (("cut", data[: len(data) // 2]), ("noise", b"\x07" * 1000)):
        (tmp_path / f"{name}.mcap").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.mcap must be undamaged; got"):
            replay(tmp_path / f"{name}.mcap", FakeDetector())
    with pytest.raises(FileNotFoundError, match="bag must exist; got no file"):
        replay(tmp_path / "none.mcap", FakeDetector())
