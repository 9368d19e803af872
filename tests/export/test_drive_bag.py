"""Bags of drives are read back by other readers: mcap-ros2-support, sqlite3, rosbags."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from rosbags.highlevel import AnyReader
from scipy.spatial.transform import Rotation

from bevstack.export.drive_bag import write_drive_bag
from bevstack.export.messages.store import open_store
from bevstack.tables.reader import Tables
from tests.export.bags import read_mcap, stamp_us
from tests.export.drives import PERIOD_US, SCENE, VERSION_NAME, write_swept_root
from tests.tables.tiny_root import read_table

CAMERAS = 6
TIMES = 16  # 1.5 s at 10 Hz, with both ends; the cameras fire 7 ms apart
PICTURES = CAMERAS * TIMES


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_swept_root(tmp_path_factory.mktemp("swept"))


def read_with_rosbags(path: Path) -> list[tuple[str, int, Any]]:
    """Return the messages of a bag, decoded with the types that it holds."""
    with AnyReader([path]) as bag:
        return [(c.topic, t, bag.deserialize(d, c.msgtype)) for c, t, d in bag.messages()]


def expected_counts(*, raw: bool = False) -> dict[str, int]:
    """Return the number of messages of each topic."""
    names = ("BACK", "BACK_LEFT", "BACK_RIGHT", "FRONT", "FRONT_LEFT", "FRONT_RIGHT")
    suffix = "" if raw else "/compressed"
    counts = {"/tf_static": 1, "/tf": PICTURES + 4, "/odom": PICTURES + 4}  # 4 of the lidar
    for name in names:
        counts[f"/CAM_{name}/camera_info"] = TIMES
        counts[f"/CAM_{name}/image_raw{suffix}"] = TIMES
    return counts


def matrix(translation: Any, rotation: Any) -> np.ndarray:
    """Return a pose of a message."""
    pose = np.eye(4)
    quaternion = (rotation.x, rotation.y, rotation.z, rotation.w)
    pose[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    pose[:3, 3] = translation.x, translation.y, translation.z
    return pose


def table_pose(row: dict[str, Any]) -> np.ndarray:
    """Return a pose of a table."""
    w, x, y, z = row["rotation"]
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat((x, y, z, w)).as_matrix()
    pose[:3, 3] = row["translation"]
    return pose


def test_mcap_ros2_support_reads_every_message(root: Path, tmp_path: Path) -> None:
    store, tables = open_store("humble"), Tables(root, VERSION_NAME)
    summary = write_drive_bag(tmp_path / "d.mcap", tables, SCENE, store)
    found = read_mcap(tmp_path / "d.mcap")
    counts = expected_counts()
    assert Counter(m.topic for m in found) == counts
    assert summary.num_messages == len(found) == sum(counts.values())
    assert summary.num_pictures == PICTURES and summary.rate_hz == pytest.approx(10)
    times = [m.time_ns for m in found]
    assert times == sorted(times) and found[0].topic == "/tf_static"
    by_time = {row["timestamp"]: row for row in read_table(root, "ego_pose")}
    for topic, time_ns, message in found:
        stamped = message.transforms[0] if topic in ("/tf", "/tf_static") else message
        assert 1000 * stamp_us(stamped.header.stamp) == time_ns
        if topic == "/tf":
            assert (stamped.header.frame_id, stamped.child_frame_id) == ("odom", "base_link")
            pose = matrix(stamped.transform.translation, stamped.transform.rotation)
            assert pose == pytest.approx(table_pose(by_time[time_ns // 1000]), abs=1e-9)
        elif topic == "/odom":
            inner = message.pose.pose
            pose = matrix(inner.position, inner.orientation)
            assert pose == pytest.approx(table_pose(by_time[time_ns // 1000]), abs=1e-9)


def test_pictures_are_the_files_own_bytes_and_the_calibration_is_the_tables(
    root: Path, tmp_path: Path
) -> None:
    write_drive_bag(tmp_path / "d.mcap", Tables(root, VERSION_NAME), SCENE, open_store())
    files = {
        (row["filename"].split("/")[1], row["timestamp"]): root / row["filename"]
        for row in read_table(root, "sample_data")
        if SCENE in row["filename"] and "CAM" in row["filename"]
    }
    calibrations = read_table(root, "calibrated_sensor")
    matrices = [np.array(row["camera_intrinsic"]) for row in calibrations]
    pictures = 0
    for topic, time_ns, message in read_mcap(tmp_path / "d.mcap"):
        channel = topic.split("/")[1]
        if topic.endswith("/compressed"):
            assert bytes(message.data) == files[channel, time_ns // 1000].read_bytes()
            assert message.format == "rgb8; jpeg compressed bgr8"
            assert message.header.frame_id == f"{channel.lower()}_optical_frame"
            pictures += 1
        elif topic.endswith("/camera_info"):
            own = np.array(message.k).reshape(3, 3)
            assert any(m.shape == (3, 3) and np.array_equal(m, own) for m in matrices)
            assert np.array(message.p).reshape(3, 4)[:, :3] == pytest.approx(own, abs=0)
            assert (message.width, message.height) == (80, 48)
            assert message.distortion_model == "plumb_bob" and not any(message.d)
        elif topic == "/tf_static":
            poses = {t.child_frame_id: t for t in message.transforms}
            assert set(poses) == {"odom", *(f"{c.lower()}_optical_frame" for c, _ in files)}
            front = poses["cam_front_optical_frame"]
            pose = matrix(front.transform.translation, front.transform.rotation)
            tables = [table_pose(row) for row in calibrations]
            assert min(np.abs(pose - other).max() for other in tables) < 1e-9
            # The optical axis of a front camera points ahead: x of base_link.
            assert pose[:3, 2] @ (1, 0, 0) > 0.99 and front.header.frame_id == "base_link"
    assert pictures == PICTURES == len(files)


def test_the_twist_of_odometry_is_the_motion_in_the_vehicles_axes(
    root: Path, tmp_path: Path
) -> None:
    write_drive_bag(tmp_path / "d.mcap", Tables(root, VERSION_NAME), SCENE, open_store())
    for topic, _, message in read_mcap(tmp_path / "d.mcap"):
        if topic == "/odom":
            pose = matrix(message.pose.pose.position, message.pose.pose.orientation)
            linear, angular = message.twist.twist.linear, message.twist.twist.angular
            # The handmade vehicle moves by (4, -2.5, 0) m/s and turns about the world's z.
            moving = pose[:3, :3] @ (linear.x, linear.y, linear.z)
            assert moving == pytest.approx((4.0, -2.5, 0.0), abs=1e-3)
            turning = pose[:3, :3] @ (angular.x, angular.y, angular.z)
            assert turning == pytest.approx((0.0, 0.0, 0.1), abs=1e-6)


@pytest.mark.parametrize(("suffix", "distro"), [("db3", "jazzy"), ("bag", "noetic")])
def test_rosbags_reads_sqlite_and_ros_1_with_the_bags_own_types(
    root: Path, tmp_path: Path, suffix: str, distro: str
) -> None:
    path = tmp_path / f"d.{suffix}"
    tables = Tables(root, VERSION_NAME)
    summary = write_drive_bag(path, tables, SCENE, open_store(distro), raw=True)
    found = read_with_rosbags(path)
    assert Counter(topic for topic, _, _ in found) == expected_counts(raw=True)
    assert summary.num_messages == len(found)
    files = {r["timestamp"]: root / r["filename"] for r in read_table(root, "sample_data")}
    for topic, time_ns, message in found:
        if topic.endswith("image_raw"):
            pixels = np.asarray(message.data).reshape(message.height, message.step // 3, 3)
            truth = cv2.imread(str(files[time_ns // 1000]))[..., ::-1]
            assert message.encoding == "rgb8" and np.array_equal(pixels, truth)


def test_static_transforms_are_offered_to_late_subscribers(root: Path, tmp_path: Path) -> None:
    tables = Tables(root, VERSION_NAME)
    for distro, expected in (("humble", "durability: 1"), ("jazzy", "durability: transient_local")):
        store = open_store(distro)
        write_drive_bag(tmp_path / f"{distro}.db3", tables, SCENE, store)
        with sqlite3.connect(tmp_path / f"{distro}.db3") as database:
            rows = dict(database.execute("SELECT name, offered_qos_profiles FROM topics"))
        assert expected in rows["/tf_static"] and "durability" not in rows["/tf"]
        write_drive_bag(tmp_path / f"{distro}.mcap", tables, SCENE, store)
        with AnyReader([tmp_path / f"{distro}.mcap"]) as bag:
            offered = {c.topic: c.ext.offered_qos_profiles for c in bag.connections}
        assert [q.durability.name for q in offered["/tf_static"]] == ["TRANSIENT_LOCAL"]
        assert [q.reliability.name for q in offered["/tf_static"]] == ["RELIABLE"]
        assert not offered["/tf"]
    write_drive_bag(tmp_path / "d.bag", tables, SCENE, open_store("noetic"))
    with AnyReader([tmp_path / "d.bag"]) as bag:
        assert {c.topic for c in bag.connections if c.ext.latching} == {"/tf_static"}


@pytest.mark.parametrize("suffix", ["mcap", "db3", "bag"])
def test_equal_input_gives_equal_bytes(root: Path, tmp_path: Path, suffix: str) -> None:
    store = open_store("noetic" if suffix == "bag" else "humble")
    for name in ("a", "b"):
        write_drive_bag(tmp_path / f"{name}.{suffix}", Tables(root, VERSION_NAME), SCENE, store)
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second and len(first) > 10_000


def test_a_lens_stands_in_the_calibration(root: Path, tmp_path: Path) -> None:
    rows = read_table(root, "calibrated_sensor")
    for row in rows:
        if row["camera_intrinsic"]:
            row["camera_distortion"] = [-0.1, 0.02, 0.001, -0.002, 0.003]
    copied = tmp_path / "root"
    write_swept_root(copied)
    (copied / VERSION_NAME / "calibrated_sensor.json").write_text(json.dumps(rows))
    write_drive_bag(tmp_path / "d.mcap", Tables(copied, VERSION_NAME), SCENE, open_store())
    infos = [m for t, _, m in read_mcap(tmp_path / "d.mcap") if t.endswith("camera_info")]
    assert all(list(m.d) == [-0.1, 0.02, 0.001, -0.002, 0.003] for m in infos) and infos
    assert PERIOD_US == 100_000


def test_a_bmp_is_no_compressed_image(root: Path, tmp_path: Path) -> None:
    copied = write_swept_root(tmp_path / "root")
    picture = next(copied.glob(f"samples/CAM_FRONT/{SCENE}_0.jpg"))
    picture.write_bytes(cv2.imencode(".bmp", np.zeros((48, 80, 3), np.uint8))[1].tobytes())
    with pytest.raises(ValueError, match=r"must be a JPEG or PNG; got BMP of cam_front_optical"):
        write_drive_bag(tmp_path / "d.mcap", Tables(copied, VERSION_NAME), SCENE, open_store())
    assert not (tmp_path / "d.mcap").exists()
