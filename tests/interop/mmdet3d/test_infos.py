"""Information files that mmdetection3d's own converters wrote are read as the tables are."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmdet3d", reason="needs mmdetection3d: make test-mmdet3d")

import mmengine
import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.interop.info_files import read_info_file
from bevstack.interop.mmdet3d_samples import annotations_from_lidar, frame_from_sample
from bevstack.types import Frame
from tests.interop.mmdet3d.worlds import SPEC, TRAIN, open_dataset
from tests.interop.test_info_files import DATA_LIST_POSE_M, expect_equal

# Its headings are Euler angles of a box that the tilted lidar sees tilted; ours are directions seen
# from above. They differ by up to the square of the tilt, (2 deg)^2 = 1.2e-3.
EULER = 1.2e-3


def frame_of_tables(folder: Path, token: str, *, load_images: bool = False) -> Frame:
    root = folder / "data" / "nuscenes"
    dataset = NuScenesDataset(root, SPEC.version, bev_frame="lidar")
    return dataset.frame(dataset.index_of(token), load_images=load_images)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("form", ["infos", "data_list"])
def test_frames_equal_those_of_the_tables(folder: Path, form: str, split: str) -> None:
    inner = "data/nuscenes" if form == "infos" else "newer"
    file = read_info_file(folder / inner / f"nuscenes_infos_{split}.pkl")
    assert file.version == SPEC.version and file.boxes == "modern"
    assert len(file) == (16 if split == "train" else 4)
    for row in (0, len(file) - 1):
        wanted = frame_of_tables(folder, file.tokens[row])
        pose_m = DATA_LIST_POSE_M if form == "data_list" else 1e-9
        expect_equal(file.frame(row), wanted, pose_m, EULER)


def test_the_files_hold_what_pickle_reads(folder: Path) -> None:
    """Compare every plain value with Python's own reading of these files, which were just made."""
    from bevstack.interop.plain_pickle import read_plain_pickle

    for inner in ("data/nuscenes", "newer"):
        path = folder / inner / "nuscenes_infos_val.pkl"
        own, theirs = read_plain_pickle(path, what="info file"), mmengine.load(str(path))
        assert repr(plain(own)) == repr(plain(theirs))


def plain(value: object) -> object:
    """Return a value with arrays and numbers of numpy as lists and numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(inner) for inner in value]
    return value


def test_samples_of_its_pipeline_are_our_frames(folder: Path) -> None:
    dataset = open_dataset(folder, "train", TRAIN)
    file = read_info_file(folder / "newer" / "nuscenes_infos_train.pkl")
    for row in (0, 3):
        item = dataset[row]
        meta = item["data_samples"].metainfo
        images = item["inputs"]["img"].flip(1)  # it loads BGR
        found = frame_from_sample(images, meta, grid_frame="lidar")
        wanted = frame_of_tables(folder, file.tokens[row], load_images=True)
        order = [found.camera_names.index(name) for name in wanted.camera_names]
        for index, image in zip(order, wanted.images, strict=True):
            own = found.images[index]
            assert own is not None and image is not None and (own == image).all()
        # lidar2cam is float32: 3e-8 of up to 2 m and of a rotation
        torch.testing.assert_close(
            found.bev_from_cam()[order], wanted.bev_from_cam(), rtol=0, atol=1e-6
        )
        torch.testing.assert_close(found.intrinsics[order], wanted.intrinsics, rtol=0, atol=1e-9)
        truth = item["data_samples"].gt_instances_3d
        boxes = annotations_from_lidar(
            truth.bboxes_3d.tensor, truth.labels_3d, torch.arange(10), torch.eye(4)
        ).boxes
        known = truth.bboxes_3d[truth.labels_3d >= 0]  # it keeps boxes of other classes, as -1
        gravity = known.gravity_center
        torch.testing.assert_close(boxes.center, gravity, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            boxes.corners().sort(1).values,
            known.corners.sort(1).values,
            rtol=0,
            atol=2e-5,  # float32 at 60 m
        )
