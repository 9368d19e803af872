"""Mirrored scenes: images, rig, poses and boxes stay consistent."""

from __future__ import annotations

import dataclasses
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from bevstack.config import AugmentationConfig, BEVGrid, Config, FPNConfig, PerspectiveConfig
from bevstack.datasets.augmentation.mirror import draw_mirror, mirror_clip, mirror_frame
from bevstack.datasets.clips import load_clip
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Frame
from bevstack.types.perspective import CAMERA_CORNER_SIGNS, rotate
from tests.datasets.test_loader import CONFIG
from tests.small_world import dataset as small_dataset
from tests.small_world import small_world


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    data = small_dataset(small_world(tmp_path_factory))
    return [data.frame(index, camera_annotations=True) for index in (0, 4)]  # two rigs


def corners_in_bev(frame: Frame) -> Tensor:  # (A, 8, 3)
    boxes = frame.annotations.boxes
    signs = torch.tensor(CAMERA_CORNER_SIGNS, dtype=torch.float64)
    local = 0.5 * boxes.size[:, None].double() * signs
    cos, sin = boxes.yaw.double().cos()[:, None], boxes.yaw.double().sin()[:, None]
    x = cos * local[..., 0] - sin * local[..., 1]
    y = sin * local[..., 0] + cos * local[..., 1]
    return torch.stack((x, y, local[..., 2]), -1) + boxes.center[:, None].double()


def pixels(frame: Frame, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return pixels (N, P, 2) and depths of points, by homogeneous products alone."""
    world = torch.cat(
        (points.flatten(0, -2), torch.ones(points.shape[:-1].numel(), 1)), -1
    ).double()
    cam = torch.linalg.inv(frame.bev_from_cam()) @ world.T  # (N, 4, P)
    projected = frame.intrinsics @ cam[:, :3]
    return (projected[:, :2] / projected[:, 2:]).transpose(1, 2), projected[:, 2]


def test_a_mirrored_pixel_shows_the_same_point(frames: list[Frame]) -> None:
    for frame in frames:
        mirrored = mirror_frame(frame)
        # corners swap: the object's y axis is mirrored with the world
        swapped = [CAMERA_CORNER_SIGNS.index((x, -y, z)) for x, y, z in CAMERA_CORNER_SIGNS]
        before, depth = pixels(frame, corners_in_bev(frame))
        after, depth_after = pixels(mirrored, corners_in_bev(mirrored)[:, swapped])
        ahead = depth > 1
        assert ahead.any()
        width = torch.tensor([image.shape[1] for image in frame.images])[:, None]
        before[..., 0] = width - before[..., 0]
        torch.testing.assert_close(after[ahead], before[ahead], rtol=1e-4, atol=0.05)  # float32
        torch.testing.assert_close(depth_after, depth, rtol=1e-5, atol=1e-4)
        for image, other in zip(frame.images, mirrored.images, strict=True):
            assert np.array_equal(image[:, ::-1], other)


def test_boxes_in_images_are_mirrored_with_them(frames: list[Frame]) -> None:
    for frame in frames:
        mirrored = mirror_frame(frame)
        assert sum(map(len, frame.camera_annotations)) > 5
        for camera, (old, new) in enumerate(
            zip(frame.camera_annotations, mirrored.camera_annotations, strict=True)
        ):
            width = frame.images[camera].shape[1]
            assert (new.boxes_px[:, 0] <= new.boxes_px[:, 2]).all()
            torch.testing.assert_close(new.boxes_px[:, 0], width - old.boxes_px[:, 2])
            ahead, other = (
                rotate(a.quaternion, torch.tensor((1.0, 0.0, 0.0)).expand(len(a), 3))
                for a in (old, new)
            )
            across = torch.tensor((-1.0, 1.0, 1.0))
            torch.testing.assert_close(other, ahead * across, rtol=0, atol=1e-5)
            torch.testing.assert_close(new.center_m, old.center_m * across)
            up = rotate(new.quaternion, torch.tensor((0.0, 0.0, 1.0)).expand(len(new), 3))
            assert (up[:, 1] < -0.9).all()  # still upright, not a reflection


def test_poses_and_motion_are_mirrored(frames: list[Frame]) -> None:
    frame = frames[0]
    mirrored = mirror_frame(frame)
    assert torch.linalg.det(mirrored.ego_from_cam[:, :3, :3]).min() > 0.999
    flip = torch.diag(torch.tensor((1.0, -1.0, 1.0, 1.0), dtype=torch.float64))
    torch.testing.assert_close(mirrored.world_from_ego, flip @ frame.world_from_ego @ flip)
    old, new = frame.annotations.boxes, mirrored.annotations.boxes
    torch.testing.assert_close(new.velocity[:, 0], old.velocity[:, 0], equal_nan=True)
    torch.testing.assert_close(new.velocity[:, 1], -old.velocity[:, 1], equal_nan=True)
    assert torch.equal(new.yaw, -old.yaw) and torch.equal(new.size, old.size)


def test_cameras_take_the_roles_of_the_other_side(frames: list[Frame]) -> None:
    names = mirror_frame(frames[0]).camera_names
    swapped = dict(zip(frames[0].camera_names, names, strict=True))
    assert swapped["CAM_FRONT"] == "CAM_FRONT" and swapped["CAM_BACK"] == "CAM_BACK"
    assert swapped["CAM_FRONT_LEFT"] == "CAM_FRONT_RIGHT"
    assert swapped["CAM_BACK_RIGHT"] == "CAM_BACK_LEFT"
    yaw = {}
    for frame, roles in ((frames[0], frames[0].camera_names), (mirror_frame(frames[0]), names)):
        ahead = frame.ego_from_cam[:, :2, 2]
        for role, (x, y) in zip(roles, ahead.tolist(), strict=True):
            yaw.setdefault(role, []).append(np.degrees(np.arctan2(y, x)))
    # each camera points like a camera of its role, within the rig's asymmetry and jitter
    assert all(abs((a - b + 180) % 360 - 180) < 8 for a, b in yaw.values())


def test_two_mirrors_undo_each_other(frames: list[Frame]) -> None:
    for frame in frames:
        twice = mirror_frame(mirror_frame(frame))
        assert all(map(np.array_equal, twice.images, frame.images))
        for name in ("intrinsics", "ego_from_cam", "world_from_ego", "world_from_ego_at_camera"):
            torch.testing.assert_close(getattr(twice, name), getattr(frame, name))
        assert torch.equal(twice.annotations.boxes.center, frame.annotations.boxes.center)
        for old, new in zip(frame.camera_annotations, twice.camera_annotations, strict=True):
            torch.testing.assert_close(new.boxes_px, old.boxes_px)
            torch.testing.assert_close(new.quaternion.abs(), old.quaternion.abs())
        assert twice.camera_names == frame.camera_names


def test_a_lost_camera_and_missing_truth_stay_so(frames: list[Frame]) -> None:
    bare = dataclasses.replace(
        frames[0],
        images=[None, *frames[0].images[1:]],
        camera_mask=None,
        camera_annotations=None,
        annotations=None,
        world_from_ego=None,
        world_from_ego_at_camera=None,
    )
    mirrored = mirror_frame(bare)
    assert mirrored.images[0] is None and not mirrored.camera_mask[0]
    assert mirrored.annotations is None and mirrored.world_from_ego is None


def test_an_asymmetric_bev_frame_is_refused(frames: list[Frame]) -> None:
    turned = torch.eye(4, dtype=torch.float64)
    turned[:2, :2] = torch.tensor(((0.0, 1.0), (-1.0, 0.0)))
    with pytest.raises(
        ValueError, match=r"bev_from_ego must be symmetric .* use the bev frame 'ego'"
    ):
        mirror_frame(dataclasses.replace(frames[0], bev_from_ego=turned))
    with pytest.raises(ValueError, match=r"mirror_scene must be False for the bev frame 'lidar'"):
        Config(
            name="x",
            grid=BEVGrid(frame="lidar"),
            augmentation=AugmentationConfig(mirror_scene=True),
        )


def test_half_of_the_samples_are_mirrored_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    data: NuScenesDataset = small_dataset(small_world(tmp_path_factory))
    draws = [
        draw_mirror(AugmentationConfig(mirror_scene=True), 5, epoch, index)
        for epoch in range(20)
        for index in range(20)
    ]
    assert 160 < sum(draws) < 240  # of 400
    plain = dataclasses.replace(
        CONFIG,
        augmentation=AugmentationConfig(),
        perspective=PerspectiveConfig(),
        fpn=FPNConfig(num_outputs=5),
        training=dataclasses.replace(CONFIG.training, batch_size=1),
    )
    augmented = dataclasses.replace(plain, augmentation=AugmentationConfig(mirror_scene=True))
    count = 2 * len(data)
    ours = list(islice(make_training_loader(data, augmented), count))
    same = list(islice(make_training_loader(data, plain), count))
    mirrored = 0
    for batch, before in zip(ours, same, strict=True):
        assert batch.sample_tokens == before.sample_tokens
        if torch.equal(batch.images, before.images):
            assert torch.equal(batch.rig.intrinsics, before.rig.intrinsics)
            assert torch.equal(batch.annotations[0].boxes.yaw, before.annotations[0].boxes.yaw)
            continue
        mirrored += 1
        centers = [b.annotations[0].boxes.center for b in (batch, before)]
        torch.testing.assert_close(centers[0], centers[1] * torch.tensor((1.0, -1.0, 1.0)))
        assert (batch.rig.intrinsics[..., 0, 0] > 0).all()
    assert 0 < mirrored < count


def test_all_frames_of_a_clip_are_mirrored(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = small_dataset(small_world(tmp_path_factory))
    clip = load_clip(data, 1, (-2, -1, 0))
    mirrored = mirror_clip(clip)
    assert mirrored.frames[0] is None and clip.frames[0] is None
    for old, new in zip(clip.frames[1:], mirrored.frames[1:], strict=True):
        assert np.array_equal(old.images[3][:, ::-1], new.images[3])
