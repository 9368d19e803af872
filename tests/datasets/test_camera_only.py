"""Roots without LIDAR_TOP: the pose of a camera or of another lidar is the reference."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.cli.main import main
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.readiness.inspection import check_root, inspect_root
from bevstack.evaluation.detection3d.truth import ground_truth
from bevstack.geometry import invert_se3
from tests.small_world import SPEC, dataset, small_world, train_detector, with_training
from tests.tables.test_references import rename_lidar, without_lidar
from tests.tables.tiny_root import VERSION, read_table, token, write_tables


def test_a_frame_has_the_samples_time_and_a_cameras_pose(root: Path) -> None:
    with_lidar = NuScenesDataset(root, VERSION).frame(1)
    without_lidar(root)
    frame = NuScenesDataset(root, VERSION).frame(1)
    back = frame.camera_names.index("CAM_BACK")  # the nearest in time
    assert torch.equal(frame.world_from_ego, frame.world_from_ego_at_camera[back])
    assert not torch.equal(frame.world_from_ego, with_lidar.world_from_ego)
    assert frame.timestamp_us == with_lidar.timestamp_us
    # boxes and cameras are where they were in the world
    moved = invert_se3(frame.world_from_ego) @ with_lidar.world_from_ego
    for field in ("center", "velocity"):
        torch.testing.assert_close(
            getattr(frame.annotations.transformed(torch.eye(4)).boxes, field),
            getattr(with_lidar.annotations.transformed(moved).boxes, field),
            atol=2e-5,  # float32 of positions of up to a hundred metres
            rtol=0,
            equal_nan=True,
        )
    torch.testing.assert_close(
        frame.world_from_ego @ frame.bev_from_cam(),
        with_lidar.world_from_ego @ with_lidar.bev_from_cam(),
    )


def test_another_lidar_gives_the_frames_of_lidar_top(root: Path) -> None:
    wanted = NuScenesDataset(root, VERSION, bev_frame="lidar").frame(5)
    rename_lidar(root, "LIDAR_CONCAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it points as LIDAR_TOP does
        frame = NuScenesDataset(root, VERSION, bev_frame="lidar").frame(5)
    assert torch.equal(frame.bev_from_ego, wanted.bev_from_ego)
    assert torch.equal(frame.world_from_ego, wanted.world_from_ego)
    assert torch.equal(frame.annotations.boxes.center, wanted.annotations.boxes.center)


def test_a_lidar_with_other_axes_is_used_with_a_warning(root: Path) -> None:
    rename_lidar(root, "LIDAR_LEFT")
    rows = read_table(root, "calibrated_sensor")
    for row in rows:
        if row["token"] == token("calibration", "scene-0916", "LIDAR_TOP"):
            row["rotation"] = [1.0, 0.0, 0.0, 0.0]
    write_tables(root, {"calibrated_sensor": rows})
    with pytest.warns(UserWarning, match="in the frame of LIDAR_LEFT, whose axes are turned"):
        NuScenesDataset(root, VERSION, bev_frame="lidar")


def test_the_lidar_frame_needs_a_lidar(root: Path) -> None:
    without_lidar(root, "scene-0916")
    assert len(NuScenesDataset(root, VERSION, scenes=["scene-0103"], bev_frame="lidar")) == 4
    with pytest.raises(ValueError, match=r"got only cameras in scene 'scene-0916': use weights"):
        NuScenesDataset(root, VERSION, bev_frame="lidar")
    assert len(NuScenesDataset(root, VERSION)) == 7


def test_distances_are_measured_from_the_reference_and_readiness_reports_nothing(
    root: Path,
) -> None:
    def findings() -> list[object]:
        reports = inspect_root(root, VERSION), check_root(root, VERSION)
        return [finding for report in reports for finding in report.findings if finding.matters]

    before = findings()
    without_lidar(root)
    assert findings() == before
    samples = NuScenesDataset(root, VERSION)
    truth = ground_truth(samples.tables, np.arange(7))
    poses = np.stack([samples.frame(n, load_images=False).world_from_ego for n in range(7)])
    np.testing.assert_array_equal(truth.ego_translation, poses[:, :3, 3])


@pytest.fixture(scope="module")
def cameras_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the small world's tables without lidar, beside the same images."""
    world, root = small_world(tmp_path_factory), tmp_path_factory.mktemp("cameras") / "root"
    (root / SPEC.version).mkdir(parents=True)
    (root / "samples").symlink_to(world / "samples")
    sensors = json.loads((world / SPEC.version / "sensor.json").read_text())
    cameras = {row["token"] for row in sensors if row["modality"] == "camera"}
    calibrations = {
        row["token"]
        for row in json.loads((world / SPEC.version / "calibrated_sensor.json").read_text())
        if row["sensor_token"] in cameras
    }
    for path in (world / SPEC.version).glob("*.json"):
        rows = json.loads(path.read_text())
        if path.stem == "sample_data":
            rows = [row for row in rows if row["calibrated_sensor_token"] in calibrations]
        (root / SPEC.version / path.name).write_text(json.dumps(rows))
    return root


def test_training_prediction_scoring_and_judging_need_no_lidar(
    cameras_only: Path, tmp_path: Path
) -> None:
    recipe = with_training(num_steps=2, checkpoint_every=2)
    train_detector(recipe, dataset(cameras_only), tmp_path / "run")
    weights, results = tmp_path / "run/model.safetensors", tmp_path / "results.json"
    data = ["--nuscenes", str(cameras_only), "--version", SPEC.version, "--split", "synth_val"]
    assert main(["predict", "--weights", str(weights), *data, "--out", str(results)]) == 0
    assert main(["evaluate", "--results", str(results), *data]) == 0
    judged = tmp_path / "judged"
    options = ["--only", "model,prior", "--out", str(judged)]
    assert main(["judge", str(weights), *data, *options]) == 0
    rows = json.loads((judged / "judge.json").read_text())["rows"]
    assert set(rows) >= {"model", "prior"}, rows
