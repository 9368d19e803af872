"""Times of tables: other units are refused by every reader, old camera images are reported."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.readiness.inspection import check_root
from bevstack.evaluation.baselines.priors import scored_annotations
from bevstack.evaluation.detection3d.truth import ground_truth
from bevstack.tables.reader import Tables
from bevstack.times import StaleCameraWarning
from tests.tables.tiny_root import VERSION, read_table, token, write_tables, write_tiny_root

UNITS = {"milliseconds": 1e3, "seconds": 1e6, "nanoseconds": 1e-3}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def change_times(root: Path, tables: tuple[str, ...], unit: str, scene: str = "") -> None:
    """Store the times of tables in another unit, of one scene's samples or of all."""
    for name in tables:
        rows = read_table(root, name)
        for row in rows:
            if not scene or row["scene_token"] == token("scene", scene):
                row["timestamp"] = int(row["timestamp"] / UNITS[unit])
        write_tables(root, {name: rows})


@pytest.mark.parametrize("unit", UNITS)
def test_every_reader_refuses_another_unit_by_name(root: Path, unit: str) -> None:
    change_times(root, ("sample", "sample_data", "ego_pose"), unit)
    readers = (
        lambda: NuScenesDataset(root, VERSION),
        lambda: ground_truth(Tables(root, VERSION), np.arange(7)),
        lambda: scored_annotations(Tables(root, VERSION), ["scene-0103"]),
    )
    for read in readers:
        with pytest.raises(ValueError, match=f"must be in microseconds; got {unit} in scene"):
            read()
    sentences = [finding.sentence for finding in check_root(root, VERSION).findings]
    assert any(f"got {unit} in scene" in sentence for sentence in sentences)


def test_one_scene_of_another_unit_is_named(root: Path) -> None:
    change_times(root, ("sample",), "milliseconds", "scene-0916")
    assert len(NuScenesDataset(root, VERSION, scenes=["scene-0103"])) == 4
    with pytest.raises(ValueError, match="got milliseconds in scene 'scene-0916', which as micro"):
        NuScenesDataset(root, VERSION)


@pytest.mark.parametrize("unit", ["milliseconds", "seconds"])
def test_key_frames_and_samples_of_two_units_are_refused(root: Path, unit: str) -> None:
    change_times(root, ("sample_data",), unit)
    with pytest.raises(
        ValueError, match=rf"must both be in microseconds; .* one of them in {unit}"
    ):
        NuScenesDataset(root, VERSION)


def test_a_parked_vehicle_is_accepted_and_its_milliseconds_are_not(root: Path) -> None:
    poses = read_table(root, "ego_pose")
    for row in poses:
        row["translation"] = [700.0, 1500.0, 0.0]
    write_tables(root, {"ego_pose": poses})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(NuScenesDataset(root, VERSION)) == 7
    change_times(root, ("sample", "sample_data"), "milliseconds")
    with pytest.raises(ValueError, match="got milliseconds"):
        NuScenesDataset(root, VERSION)


def delay(root: Path, channel: str, seconds: float, samples: tuple[int, ...] = (1,)) -> None:
    """Move the images of a camera of scene-0103 into the past."""
    rows = read_table(root, "sample_data")
    chosen = {token("reading", "scene-0103", k, channel) for k in samples}
    for row in rows:
        if row["token"] in chosen:
            row["timestamp"] -= round(1e6 * seconds)
    write_tables(root, {"sample_data": rows})


def test_an_old_camera_is_lost_and_named(root: Path) -> None:
    wanted = NuScenesDataset(root, VERSION).frame(1)
    delay(root, "CAM_BACK", 5.0)
    sample = token("sample", "scene-0103", 1)
    with pytest.warns(StaleCameraWarning) as record:
        dataset = NuScenesDataset(root, VERSION)
    assert [str(warning.message) for warning in record] == [
        f"CAM_BACK counts as lost in 1 of 7 samples, such as '{sample}': its image is 5 s older "
        "than its frame (limit 0.5 s)"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the warning of the data set is enough
        frame, before = dataset.frame(1), dataset.frame(0)
        dataset.frame(1, camera_annotations=True)
    back = frame.camera_names.index("CAM_BACK")
    assert torch.nonzero(~frame.camera_mask).flatten().tolist() == [back]
    assert frame.stale_cameras() == ("CAM_BACK",) and before.stale_cameras() == ()
    assert before.camera_mask.all()
    for camera, image in enumerate(frame.images):
        assert image is None if camera == back else np.array_equal(image, wanted.images[camera])


def test_the_limit_can_be_set(root: Path) -> None:
    delay(root, "CAM_FRONT", 0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = NuScenesDataset(root, VERSION, max_camera_age_s=1.0)
        assert dataset.frame(1).camera_mask.all()
    with pytest.warns(StaleCameraWarning, match="CAM_FRONT counts .* 0.73 s older"):
        assert not NuScenesDataset(root, VERSION).frame(1).camera_mask.all()


def test_a_sample_without_a_current_camera_is_refused(root: Path) -> None:
    for channel in {row["channel"] for row in read_table(root, "sensor")} - {"LIDAR_TOP"}:
        delay(root, channel, -2.0, samples=(1, 3))
    wanted = rf"got none for '{token('sample', 'scene-0103', 1)}', .* 2 s newer .* 1 more samples"
    with pytest.raises(ValueError, match=wanted):
        NuScenesDataset(root, VERSION)
