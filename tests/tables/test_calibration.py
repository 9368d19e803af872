from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.tables.calibration import (
    check_calibrations,
    check_class_names,
    ego_from_sensor,
    world_annotations,
    world_from_ego_at,
)
from bevstack.tables.reader import Tables
from tests.tables.tiny_root import VERSION, read_table, write_tables, write_tiny_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def test_poses_equal_pyquaternions(root: Path) -> None:
    quaternion = pytest.importorskip("pyquaternion").Quaternion
    tables = Tables(root, VERSION)
    poses = {row["token"]: row for row in read_table(root, "ego_pose")}
    rows = np.array([3, 0, 17])
    for pose, token in zip(
        world_from_ego_at(tables, rows), tables.keyframes.token[rows], strict=True
    ):
        expected = quaternion(poses[token]["rotation"]).transformation_matrix
        expected[:3, 3] = poses[token]["translation"]
        np.testing.assert_allclose(pose, expected, atol=1e-12)
    calibrations = read_table(root, "calibrated_sensor")
    for row, pose in enumerate(ego_from_sensor(tables, np.arange(len(calibrations)))):
        expected = quaternion(calibrations[row]["rotation"]).transformation_matrix
        expected[:3, 3] = calibrations[row]["translation"]
        np.testing.assert_allclose(pose, expected, atol=1e-12)


def test_boxes_in_the_world_frame_equal_the_rows_of_the_table(root: Path) -> None:
    tables = Tables(root, VERSION)
    sample = 2
    rows = [read_table(root, "sample_annotation")[row] for row in tables.annotations_of(sample)]
    annotations = world_annotations(tables, sample, ("car", "bus"))
    assert annotations.labels.tolist() == [0, 1]
    kept = [rows[0], rows[1]]  # a car and a bus; the pedestrian is in another sample
    assert annotations.boxes.center.tolist() == [row["translation"] for row in kept]
    for size, row in zip(annotations.boxes.size.tolist(), kept, strict=True):
        assert size == [row["size"][1], row["size"][0], row["size"][2]]
    torch.testing.assert_close(
        annotations.boxes.yaw, torch.tensor([0.3, 2.3], dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert annotations.boxes.center.dtype == torch.float64


def test_a_sample_without_boxes_has_none(root: Path) -> None:
    rows = read_table(root, "sample_annotation")
    emptied = rows[0]["sample_token"]
    rows = [row for row in rows if row["sample_token"] != emptied]
    for row in rows:
        row["prev"] = row["next"] = ""
    write_tables(root, {"sample_annotation": rows})
    assert len(world_annotations(Tables(root, VERSION), 0)) == 0


def test_only_the_given_calibrations_are_checked(root: Path) -> None:
    rows = read_table(root, "calibrated_sensor")
    rows[2]["rotation"] = [float("nan")] * 4
    write_tables(root, {"calibrated_sensor": rows})
    tables = Tables(root, VERSION)
    check_calibrations(tables, np.array([0, 1, 3]))
    with pytest.raises(ValueError, match=r"^rotation of CAM_\w+ in calibrated_sensor\.json"):
        check_calibrations(tables, np.array([0, 2]))


def test_class_names_are_those_of_the_detection_task() -> None:
    check_class_names(("truck", "car"))
    with pytest.raises(ValueError, match="got 'lorry'; did you mean"):
        check_class_names(("car", "lorry"))
