"""Images whose width or height the table does not give."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.config import FPNConfig, ImageConfig, PerspectiveConfig
from bevstack.datasets.clips import load_clip
from bevstack.datasets.collate import prepare_clip
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.readiness.inspection import check_root, inspect_root
from tests.small_world import CONFIG
from tests.tables.tiny_root import VERSION, read_table, write_tables

SMALL = dataclasses.replace(
    CONFIG,
    images=ImageConfig(size=(24, 40)),
    perspective=PerspectiveConfig(min_points=0),
    fpn=FPNConfig(num_outputs=5, channels=32),
)


def forget_sizes(root: Path, sizes: dict[str, int | None]) -> None:
    rows = read_table(root, "sample_data")
    for row in rows:
        row |= sizes
    write_tables(root, {"sample_data": rows})


@pytest.mark.parametrize(
    "sizes",
    [{"width": 0, "height": 0}, {"width": None, "height": None}, {"width": 0}, {"height": 0}],
    ids=str,
)
def test_the_image_gives_the_size_that_the_table_lacks(
    root: Path, sizes: dict[str, int | None]
) -> None:
    wanted = NuScenesDataset(root, VERSION)
    clips = [load_clip(wanted, i, camera_annotations=True, images_for=SMALL) for i in (1, 5)]
    forget_sizes(root, sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = NuScenesDataset(root, VERSION)
    for index, clip in zip((1, 5), clips, strict=True):
        found = load_clip(dataset, index, camera_annotations=True, images_for=SMALL)
        for ours, theirs in zip(found.current.images, clip.current.images, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        prepared, expected = (prepare_clip(c, SMALL) for c in (found, clip))
        assert torch.equal(prepared.images, expected.images)
        assert torch.equal(prepared.rig.image_size, expected.rig.image_size)
        assert prepared.camera_annotations is not None and expected.camera_annotations is not None
        for ours, theirs in zip(
            prepared.camera_annotations, expected.camera_annotations, strict=True
        ):
            assert torch.equal(ours.boxes_px, theirs.boxes_px)
    assert not dataset.missing_images()


def test_a_size_that_the_table_gives_still_decides(root: Path) -> None:
    forget_sizes(root, {"width": 81})
    with pytest.raises(ValueError, match="must be 81x48"):
        NuScenesDataset(root, VERSION).frame(0)


def test_a_missing_or_damaged_image_without_a_size_is_named(root: Path) -> None:
    forget_sizes(root, {"width": 0, "height": 0})
    path = root / "samples/CAM_FRONT/scene-0103_0.jpg"
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"JPEG.*CAM_FRONT/scene-0103_0\.jpg, which has no"):
        NuScenesDataset(root, VERSION).frame(0, images_for=SMALL)
    path.unlink()
    dataset = NuScenesDataset(root, VERSION)
    with pytest.raises(FileNotFoundError, match=r"CAM_FRONT/scene-0103_0\.jpg"):
        dataset.frame(0)
    assert dataset.frame(0, load_images=False).num_cameras == 6


def test_checks_of_a_root_accept_images_without_a_size(root: Path) -> None:
    wanted = [check_root(root, VERSION).findings, inspect_root(root, VERSION).findings]
    forget_sizes(root, {"width": 0, "height": 0})
    found = [
        check_root(root, VERSION).findings,
        inspect_root(root, VERSION, read_images=True).findings,
    ]
    assert found == wanted
