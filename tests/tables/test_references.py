"""Reference key frames: LIDAR_TOP, else another lidar, else the camera nearest in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bevstack.tables.reader import Tables
from tests.tables.tiny_root import VERSION, read_table, token, write_tables, write_tiny_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def without_lidar(root: Path, scene: str = "") -> None:
    """Remove the lidar's readings, of one scene or of all."""
    lidar = {
        token("reading", name, k, "LIDAR_TOP")
        for name in ("scene-0103", "scene-0916")
        for k in range(4)
        if scene in ("", name)
    }
    rows = [row for row in read_table(root, "sample_data") if row["token"] not in lidar]
    write_tables(root, {"sample_data": rows})


def rename_lidar(root: Path, name: str, modality: str = "lidar") -> None:
    rows = read_table(root, "sensor")
    for row in rows:
        if row["channel"] == "LIDAR_TOP":
            row |= {"channel": name, "modality": modality}
    write_tables(root, {"sensor": rows})


def references(root: Path) -> list[str]:
    """Return the channel of every sample's reference, scene by scene."""
    tables = Tables(root, VERSION)
    rows = tables.reference_keyframes(np.arange(7))
    assert tables.keyframes.sample[rows].tolist() == list(range(7))
    return tables.calibrated_sensors.channel[tables.keyframes.sensor[rows]].tolist()


def test_lidar_top_is_the_reference_whatever_else_there_is(root: Path) -> None:
    assert references(root) == ["LIDAR_TOP"] * 7


@pytest.mark.parametrize("name", ["LIDAR_CONCAT", "LIDAR_LEFT", "ROOF"])
def test_another_lidar_is_the_reference_without_lidar_top(root: Path, name: str) -> None:
    before = Tables(root, VERSION)
    rename_lidar(root, name)
    assert references(root) == [name] * 7
    rows = Tables(root, VERSION).reference_keyframes(np.arange(7))
    assert rows.tolist() == before.reference_keyframes(np.arange(7)).tolist()


def test_a_sensor_that_is_no_lidar_is_not_the_reference(root: Path) -> None:
    rename_lidar(root, "RADAR_FRONT", "radar")
    # the cameras lie 7, 14, ... ms before the sample, in the order of their table
    assert references(root) == ["CAM_BACK"] * 4 + ["SIDE_RIGHT"] * 3


def test_the_camera_nearest_in_time_is_the_reference_without_lidar(root: Path) -> None:
    without_lidar(root)
    assert references(root) == ["CAM_BACK"] * 4 + ["SIDE_RIGHT"] * 3
    rows = read_table(root, "sample_data")
    for row in rows:  # of the second sample; after the sample, nearer than CAM_BACK
        if row["token"] == token("reading", "scene-0103", 1, "CAM_FRONT"):
            row["timestamp"] = (
                next(
                    s["timestamp"]
                    for s in read_table(root, "sample")
                    if s["token"] == row["sample_token"]
                )
                + 6_000
            )
    write_tables(root, {"sample_data": rows})
    assert references(root)[:3] == ["CAM_BACK", "CAM_FRONT", "CAM_BACK"]


def test_of_cameras_equally_near_the_first_by_name_is_taken(root: Path) -> None:
    without_lidar(root)
    times = {row["token"]: row["timestamp"] for row in read_table(root, "sample")}
    rows = read_table(root, "sample_data")
    for row in rows:
        row["timestamp"] = times[row["sample_token"]]
    write_tables(root, {"sample_data": rows[::-1]})
    assert references(root) == ["CAM_BACK"] * 7


def test_each_scene_has_its_own_kind_of_reference(root: Path) -> None:
    without_lidar(root, "scene-0916")
    assert references(root) == ["LIDAR_TOP"] * 4 + ["SIDE_RIGHT"] * 3


def test_of_several_lidars_the_first_complete_one_is_the_reference(root: Path) -> None:
    rename_lidar(root, "LIDAR_RIGHT")
    sensors, mounts = read_table(root, "sensor"), read_table(root, "calibrated_sensor")
    sensors.append({"token": token("left"), "channel": "LIDAR_LEFT", "modality": "lidar"})
    write_tables(root, {"sensor": sensors})
    rows = read_table(root, "sample_data")
    for scene, missing in (("scene-0103", 2), ("scene-0916", None)):
        old = token("calibration", scene, "LIDAR_TOP")
        mount = next(row for row in mounts if row["token"] == old)
        mounts.append(mount | {"token": token("left", scene), "sensor_token": token("left")})
        for row in [row for row in rows if row["calibrated_sensor_token"] == old]:
            if missing is None or row["sample_token"] != token("sample", scene, missing):
                copy = {"token": token("left", row["token"])}
                rows.append(row | copy | {"calibrated_sensor_token": token("left", scene)})
    write_tables(root, {"calibrated_sensor": mounts, "sample_data": rows})
    assert references(root) == ["LIDAR_RIGHT"] * 4 + ["LIDAR_LEFT"] * 3


def test_a_sample_without_any_reference_is_named(root: Path) -> None:
    without_lidar(root)
    sample = token("sample", "scene-0916", 1)
    rows = [row for row in read_table(root, "sample_data") if row["sample_token"] != sample]
    write_tables(root, {"sample_data": rows})
    with pytest.raises(ValueError, match=f"of a lidar or a camera in .* got none for '{sample}'"):
        references(root)
