"""Images and lidar sweeps between the keyframes, ordered and linked as in nuScenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.synthetic import WorldSpec, make_world
from bevstack.synthetic.recording.readings import sensor_readings
from tests.small_world import build_once

SPEC = WorldSpec(
    seed=4,
    train_scenes=1,
    val_scenes=1,
    samples_per_scene=3,
    image_size=(90, 160),
    sweeps=True,
    weather="overcast",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_once(
        tmp_path_factory, "recorded_sweeps", lambda folder: make_world(folder / "world", SPEC)
    )
    return folder / "world"


def test_five_images_lie_between_two_keyframes_and_belong_to_the_second():
    readings = sensor_readings(3, 5)
    assert [r.is_key for r in readings] == [True] + ([False] * 5 + [True]) * 2
    assert [r.sample for r in readings] == [0] + [1] * 6 + [2] * 6
    steps = np.diff([r.since_start_us for r in readings])
    assert abs(steps - 1e6 / 12).max() <= 1
    assert [r.is_key for r in sensor_readings(4, 0)] == [True] * 4


def test_devkit_walks_through_sweeps_and_keyframes_in_order_of_time(root: Path):
    from nuscenes import NuScenes

    devkit = NuScenes(SPEC.version, str(root), verbose=False)
    for sample in devkit.sample:
        assert all(devkit.get("sample_data", t)["is_key_frame"] for t in sample["data"].values())
    first = devkit.get("sample", devkit.scene[0]["first_sample_token"])
    row = devkit.get("sample_data", first["data"]["CAM_FRONT_LEFT"])
    assert row["prev"] == ""
    chain = [row]
    while chain[-1]["next"]:
        chain.append(devkit.get("sample_data", chain[-1]["next"]))
        assert chain[-1]["prev"] == chain[-2]["token"]
    assert len(chain) == 13
    for row in chain:
        folder = "samples" if row["is_key_frame"] else "sweeps"
        assert row["filename"].startswith(f"{folder}/CAM_FRONT_LEFT/")
        assert (root / row["filename"]).is_file()
        pose = devkit.get("ego_pose", row["ego_pose_token"])
        assert pose["timestamp"] == row["timestamp"]
    steps = np.diff([row["timestamp"] for row in chain])
    assert abs(steps - 1e6 / 12).max() <= 1


def test_nine_lidar_sweeps_lie_between_two_keyframes_each_with_its_pose(root: Path):
    from nuscenes import NuScenes
    from nuscenes.utils.data_classes import LidarPointCloud

    devkit = NuScenes(SPEC.version, str(root), verbose=False)
    for scene in devkit.scene:
        sample = devkit.get("sample", scene["first_sample_token"])
        chain = [devkit.get("sample_data", sample["data"]["LIDAR_TOP"])]
        while chain[-1]["next"]:
            chain.append(devkit.get("sample_data", chain[-1]["next"]))
            assert chain[-1]["prev"] == chain[-2]["token"]
        assert [row["is_key_frame"] for row in chain] == [True] + ([False] * 9 + [True]) * 2
        assert set(np.diff([row["timestamp"] for row in chain])) == {50_000}
        poses, key = [], None
        for row in reversed(chain):
            key = row["sample_token"] if row["is_key_frame"] else key
            assert row["sample_token"] == key  # of the keyframe that follows
            folder = "samples" if row["is_key_frame"] else "sweeps"
            assert row["filename"].startswith(f"{folder}/LIDAR_TOP/")
            cloud = LidarPointCloud.from_file(str(root / row["filename"]))
            assert cloud.nbr_points() > 3000
            pose = devkit.get("ego_pose", row["ego_pose_token"])
            assert pose["timestamp"] == row["timestamp"]
            poses.append(pose["translation"][:2])
        whole = np.hypot(*np.subtract(poses[0], poses[-1]))
        steps = np.hypot(*np.diff(poses, axis=0).T)
        assert steps.sum() == pytest.approx(whole, rel=0.02, abs=0.01)
        assert steps.max() < 1.0
    last = devkit.get("sample", devkit.scene[0]["last_sample_token"])
    cloud, times = LidarPointCloud.from_file_multisweep(
        devkit, last, "LIDAR_TOP", "LIDAR_TOP", nsweeps=10
    )
    assert cloud.nbr_points() > 30_000
    np.testing.assert_allclose(np.unique(times), 0.05 * np.arange(10), atol=1e-6)


def test_points_of_a_wall_stay_where_they_are_from_sweep_to_sweep(root: Path):
    """Compare sweeps, transformed to the keyframe by their poses, with the keyframe's points."""
    from nuscenes import NuScenes
    from nuscenes.utils.data_classes import LidarPointCloud
    from scipy.spatial import cKDTree

    devkit = NuScenes(SPEC.version, str(root), verbose=False)
    for scene in devkit.scene:
        last = devkit.get("sample", scene["last_sample_token"])
        cloud, times = LidarPointCloud.from_file_multisweep(
            devkit, last, "LIDAR_TOP", "LIDAR_TOP", nsweeps=4
        )
        high = (cloud.points[2] > -1.0) & (np.hypot(*cloud.points[:2]) < 25.0)
        old = times[0] > 0.04
        now, before = cloud.points[:3, high & ~old].T, cloud.points[:3, high & old].T
        distances = cKDTree(now).query(before)[0]
        assert np.median(distances) < 0.35  # columns of the sweep are up to 0.3 m apart there


def test_images_between_keyframes_show_motion_and_tables_stay_the_same(root: Path, tmp_path: Path):
    plain = tmp_path / "plain"
    make_world(plain, replace(SPEC, sweeps=False))
    for table in ("sample_annotation", "instance", "traffic_element", "scene"):
        path = f"{SPEC.version}/{table}.json"
        assert (plain / path).read_text() == (root / path).read_text()
    keys = sorted((plain / "samples" / "CAM_FRONT").iterdir())
    for key in keys:  # keyframes have the same bytes with and without sweeps
        assert key.read_bytes() == (root / "samples" / "CAM_FRONT" / key.name).read_bytes()
    between = sorted((root / "sweeps" / "CAM_FRONT").iterdir())
    scene = [p for p in between if p.name.split("__")[0] == keys[0].name.split("__")[0]][:5]
    start, end, *middle = (
        cv2.imread(str(p)).astype(float) for p in (keys[0], keys[1], scene[0], scene[4])
    )
    early, late = (np.abs(m - start).mean() for m in middle)
    assert early < late
    assert np.abs(middle[1] - end).mean() < np.abs(middle[0] - end).mean()
