from __future__ import annotations

import dataclasses
import re
from operator import attrgetter
from pathlib import Path

import pytest
import torch

from bevstack.config import AugmentationConfig, BEVEncoderConfig, BEVGrid, Config, ImageConfig
from bevstack.datasets.augmentation.augment import (
    BEVAugmentation,
    ImageAugmentation,
    PixelAugmentation,
)
from bevstack.datasets.clips import load_clip
from bevstack.datasets.collate import camera_slots, prepare_clip, stack_clips
from bevstack.datasets.loader import collate
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.preprocess import preprocess
from bevstack.geometry import invert_se3, se3_from_parts
from bevstack.types import CameraAnnotations, Clip, Frame
from tests.tables.tiny_root import VERSION, camera_rotation, token

CONFIG = Config(name="small", images=ImageConfig(size=(24, 50), keep_bottom=0.8, pad_to=8))


def _rig_frame(yaws_deg: list[float], names: tuple[str, ...] = ()) -> Frame:
    rotation = torch.tensor([camera_rotation(yaw) for yaw in yaws_deg], dtype=torch.float64)
    count = len(yaws_deg)
    return Frame(
        images=[None] * count,
        intrinsics=torch.eye(3).repeat(count, 1, 1),
        ego_from_cam=se3_from_parts(rotation, torch.zeros(count, 3, dtype=torch.float64)),
        camera_names=names,
    )


def _assert_same(found: CameraAnnotations, wanted: CameraAnnotations) -> None:
    for field in dataclasses.fields(CameraAnnotations):
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_a_batch_of_two_rigs_holds_each_unchanged(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    clips = [load_clip(dataset, index) for index in (1, 5)]
    batch = collate(clips, CONFIG)
    assert batch.images.shape == (2, 1, 6, 3, 24, 56)
    assert batch.sample_tokens == (dataset.sample_token(1), dataset.sample_token(5))
    for row, (clip, cameras) in enumerate(zip(clips, (6, 4), strict=True)):
        alone = collate([clip], CONFIG)
        height, width = alone.images.shape[-2:]
        found = batch.images[row, :, :cameras]
        torch.testing.assert_close(found[..., :height, :width], alone.images[0], rtol=0, atol=0)
        assert (found[..., width:] == 0).all()
        for name in ("intrinsics", "bev_from_cam", "image_size", "camera_mask"):
            part = getattr(batch.rig, name)[row, :, :cameras]
            torch.testing.assert_close(part, getattr(alone.rig, name)[0], rtol=0, atol=0)
        assert torch.equal(batch.camera_slots[row, :cameras], alone.camera_slots[0])
        assert torch.equal(batch.world_from_bev[row], alone.world_from_bev[0])
        current = clip.current.annotations
        assert torch.equal(batch.annotations[row].boxes.center, current.boxes.center)
    assert batch.rig.camera_mask[1, 0].tolist() == [True] * 4 + [False] * 2
    assert (batch.images[1, 0, 4:] == 0).all()
    assert bool(torch.isfinite(batch.rig.image_from_bev).all())


def test_past_rigs_are_given_in_the_current_bev_frame(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION, bev_frame="lidar")
    clip = load_clip(dataset, 2, (-2, -1, 0))
    batch = collate([clip], CONFIG)
    assert batch.frame_valid.tolist() == [[True, True, True]]
    assert batch.timestamp_us[0].diff().tolist() == [500_000, 500_000]
    world = clip.current.world_from_bev()[:3, 3] + torch.tensor([4.0, 9.0, 0.5])
    for time, frame in enumerate(clip.frames):

        def in_bev(pose: torch.Tensor) -> torch.Tensor:
            point = invert_se3(pose)
            return (point[:3, :3] @ world + point[:3, 3])[None]

        alone = collate([Clip((frame,), (0,))], CONFIG).rig[0, 0]
        wanted_uv, wanted_depth = alone.project(in_bev(frame.world_from_bev()))
        found_uv, found_depth = batch.rig[0, time].project(in_bev(clip.current.world_from_bev()))
        torch.testing.assert_close(found_depth, wanted_depth, atol=1e-9, rtol=0)
        torch.testing.assert_close(found_uv, wanted_uv, atol=1e-6, rtol=1e-9)
        assert torch.equal(batch.world_from_bev[0, time], frame.world_from_bev())


def test_a_frame_that_does_not_exist_is_empty(root: Path) -> None:
    batch = collate([load_clip(NuScenesDataset(root, VERSION), 0, (-1, 0))], CONFIG)
    assert batch.frame_valid.tolist() == [[False, True]]
    assert (batch.images[0, 0] == 0).all()
    assert (batch.images[0, 1] != 0).any()
    assert not batch.rig.camera_mask[0, 0].any()
    assert batch.rig.camera_mask[0, 1].all()
    assert torch.equal(batch.world_from_bev[0, 0], torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("indices", [(0,), (1, 6, 4), (0, 2, 1, 5, 3)])
def test_clips_of_different_missing_history_are_batched_unchanged(
    root: Path, indices: tuple[int, ...]
) -> None:
    dataset = NuScenesDataset(root, VERSION)
    offsets = (-2, -1, 0, 2)
    existing = {  # scenes of four and of three samples
        0: [False, False, True, True],
        1: [False, True, True, True],
        2: [True, True, True, False],
        3: [True, True, True, False],
        4: [False, False, True, True],
        5: [False, True, True, False],
        6: [True, True, True, False],
    }
    flipped = ImageAugmentation(resize=0.9, flip=True)
    clips = [load_clip(dataset, index, offsets) for index in indices]
    batch = stack_clips([prepare_clip(clip, CONFIG, flipped) for clip in clips])
    assert batch.frame_valid.tolist() == [existing[index] for index in indices]
    for row, clip in enumerate(clips):
        alone = stack_clips([prepare_clip(clip, CONFIG, flipped)])
        cameras, height, width = (alone.images.shape[n] for n in (2, 4, 5))
        images = batch.images[row]
        assert torch.equal(images[:, :cameras, :, :height, :width], alone.images[0])
        assert int((images != 0).sum()) == int((alone.images != 0).sum())
        for name in ("intrinsics", "bev_from_cam", "image_size", "camera_mask"):
            part = getattr(batch.rig, name)[row, :, :cameras]
            assert torch.equal(part, getattr(alone.rig, name)[0]), name
        assert not batch.rig.camera_mask[row, :, cameras:].any()
        for slot, frame in enumerate(clip.frames):
            if frame is None:
                assert not images[slot].any()
                assert not batch.rig.camera_mask[row, slot].any()
            else:  # past frames are cropped, resized and mirrored like the current one
                wanted = preprocess(frame, CONFIG.images, flipped)
                assert torch.equal(batch.rig.intrinsics[row, slot, :cameras], wanted.rig.intrinsics)
                assert torch.equal(batch.world_from_bev[row, slot], frame.world_from_bev())
                assert int(batch.timestamp_us[row, slot]) == frame.timestamp_us


def test_frames_of_two_scenes_are_no_clip(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    frames = (dataset.frame(3, load_images=False), dataset.frame(4, load_images=False))
    scenes = [re.escape(repr(token("scene", name))) for name in ("scene-0916", "scene-0103")]
    with pytest.raises(ValueError, match=rf"must be of one scene, {scenes[0]}; got .*{scenes[1]}"):
        Clip(frames, (-1, 0))


def test_a_frame_of_an_arbitrary_rig_needs_no_pose() -> None:
    frame = _rig_frame([0.0, 120.0, -120.0])
    batch = collate([Clip((frame,), (0,))], CONFIG)
    assert batch.annotations is None
    assert torch.equal(batch.world_from_bev[0, 0], torch.eye(4, dtype=torch.float64))


def test_clips_of_several_frames_need_poses_and_one_rig() -> None:
    past, now = _rig_frame([0.0, 90.0]), _rig_frame([0.0, 90.0])
    with pytest.raises(ValueError, match="world_from_ego must be given for every frame of a clip"):
        collate([Clip((past, now), (-1, 0))], CONFIG)
    pose = torch.eye(4)
    past = dataclasses.replace(_rig_frame([0.0]), world_from_ego=pose)
    now = dataclasses.replace(now, world_from_ego=pose)
    with pytest.raises(
        ValueError, match=r"must have the same number of cameras; got 1 in .* and 2"
    ):
        collate([Clip((past, now), (-1, 0))], CONFIG)


def test_published_cameras_take_the_embedding_of_their_role(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    assert camera_slots(dataset.frame(0, load_images=False), 6).tolist() == [0, 1, 2, 3, 4, 5]
    # CAM_FRONT, CAM_BACK, then SIDE_LEFT at 88 and SIDE_RIGHT at -90 degrees, nearest to the
    # back left camera at 109 and the back right one at -112
    assert camera_slots(dataset.frame(4, load_images=False), 6).tolist() == [0, 3, 4, 5]


def test_a_role_counts_more_than_a_direction() -> None:
    turned = _rig_frame([180.0, 180.0], ("CAM_FRONT", "rear"))
    assert camera_slots(turned, 6).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("yaw_deg", "slot"),
    [(0, 0), (27, 0), (29, 2), (-28, 0), (-30, 1), (80, 2), (84, 4), (-83, 1), (-86, 5), (146, 3)],
)
def test_other_cameras_take_the_embedding_of_the_nearest_direction(
    yaw_deg: float, slot: int
) -> None:
    for turn in (0.0, 360.0, -360.0):
        assert camera_slots(_rig_frame([yaw_deg + turn]), 6).tolist() == [slot]


@pytest.mark.oracle("data_camera_directions")
def test_real_cameras_without_names_get_the_embeddings_of_their_roles(real_root: Path) -> None:
    dataset = NuScenesDataset(real_root, VERSION, split="mini_val")
    for index in (0, 60):  # two cars
        frame = dataset.frame(index, load_images=False)
        nameless = dataclasses.replace(frame, camera_names=())
        assert camera_slots(nameless, 6).tolist() == [0, 1, 2, 3, 4, 5]


def test_other_numbers_of_embeddings_are_spread_evenly() -> None:
    frame = _rig_frame([3.0, -95.0, 170.0, 80.0], ("CAM_FRONT", "b", "c", "d"))
    assert camera_slots(frame, 4).tolist() == [0, 1, 2, 3]
    assert camera_slots(frame, 1).tolist() == [0, 0, 0, 0]
    config = dataclasses.replace(CONFIG, encoder=BEVEncoderConfig(num_camera_embeddings=1))
    assert collate([Clip((frame,), (0,))], config).camera_slots.tolist() == [[0, 0, 0, 0]]


def test_only_boxes_strictly_inside_the_grid_are_learned(root: Path) -> None:
    clip = load_clip(NuScenesDataset(root, VERSION), 1)
    center = clip.current.annotations.boxes.center
    edge = float(center[0, 0])  # the car is exactly on it
    grid = BEVGrid(x_range_m=(edge - 50.0, edge), y_range_m=(-40.0, 40.0), shape=(8, 8))
    found = prepare_clip(clip, dataclasses.replace(CONFIG, grid=grid)).annotations
    assert found.boxes.center[:, 0].max() < edge
    assert 0 < len(found) < len(center)


def test_boxes_are_filtered_after_they_were_moved(root: Path) -> None:
    clip = load_clip(NuScenesDataset(root, VERSION), 1)
    x = clip.current.annotations.boxes.center[:, 0]
    grid = BEVGrid(x_range_m=(0.0, 60.0), y_range_m=(-60.0, 60.0), shape=(8, 8))
    config = dataclasses.replace(CONFIG, grid=grid)
    prepared = prepare_clip(clip, config, None, BEVAugmentation(flip_x=True))
    assert len(prepared.annotations) == int((x < 0).sum())
    torch.testing.assert_close(
        prepared.bev_augmentation, torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    )
    moved = stack_clips([prepared, prepared])
    assert moved.bev_augmentation.shape == (2, 3, 3)


def test_camera_boxes_of_different_rigs_are_batched(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    clips = [load_clip(dataset, index, camera_annotations=True) for index in (1, 5)]
    batch = collate(clips, CONFIG)
    assert [len(sample) for sample in batch.camera_annotations] == [6, 6]
    for clip, found in zip(clips, batch.camera_annotations, strict=True):
        wanted = preprocess(clip.current, CONFIG.images).camera_annotations
        for ours, theirs in zip(found, wanted, strict=False):
            _assert_same(ours, theirs)
        assert sum(map(len, wanted)) > 0
    assert [len(camera) for camera in batch.camera_annotations[1][4:]] == [0, 0]
    assert collate([load_clip(dataset, 1)], CONFIG).camera_annotations is None


def test_grid_and_bev_augmentation_do_not_change_camera_boxes(root: Path) -> None:
    clip = load_clip(NuScenesDataset(root, VERSION), 1, camera_annotations=True)
    grid = BEVGrid(x_range_m=(0.0, 0.5), y_range_m=(0.0, 0.5), shape=(8, 8))  # holds no box
    config = dataclasses.replace(CONFIG, grid=grid)
    turned = BEVAugmentation(rotation_rad=0.4, scale=1.1, flip_y=True)
    moved = prepare_clip(clip, config, None, turned)
    assert len(moved.annotations) == 0
    plain = prepare_clip(clip, CONFIG).camera_annotations
    for ours, theirs in zip(moved.camera_annotations, plain, strict=True):
        _assert_same(ours, theirs)
    mirrored = prepare_clip(clip, CONFIG, ImageAugmentation(flip=True)).camera_annotations
    assert sum(len(a) for a in plain) > 0
    for camera, (ours, theirs) in enumerate(zip(mirrored, plain, strict=True)):
        width = int(moved.rig.image_size[0, camera, 1])
        swapped = torch.stack([width - theirs.boxes_px[:, 2], width - theirs.boxes_px[:, 0]], 1)
        # float32 pixels of a width of 50
        torch.testing.assert_close(ours.boxes_px[:, ::2], swapped, atol=1e-5, rtol=0)
        assert torch.equal(ours.center_m, theirs.center_m)
        assert torch.equal(ours.quaternion, theirs.quaternion)


def test_only_the_current_frames_cameras_have_boxes(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    alone = prepare_clip(load_clip(dataset, 2, (0,), camera_annotations=True), CONFIG)
    for offsets in ((-1, 0), (-2, 0, 1), (0, 1)):
        clip = load_clip(dataset, 2, offsets, camera_annotations=True)
        remaining = [f for f in clip.frames if f is not clip.current]
        assert all(frame.camera_annotations is None for frame in remaining)
        found = prepare_clip(clip, CONFIG).camera_annotations
        for ours, theirs in zip(found, alone.camera_annotations, strict=True):
            _assert_same(ours, theirs)


def test_colours_differ_between_frames_and_only_the_current_one_is_masked(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    offsets = (-2, -1, 0, 1)
    clip = load_clip(dataset, 1, offsets, camera_annotations=True)
    drawn = PixelAugmentation(
        config=AugmentationConfig(photometric=True, grid_mask=1.0), seed=1, epoch=0, index=1
    )
    image_augmentation = ImageAugmentation(resize=0.8, flip=True)
    moved = BEVAugmentation(rotation_rad=0.4, flip_x=True)
    found = prepare_clip(clip, CONFIG, image_augmentation, moved, drawn)
    plain = prepare_clip(clip, CONFIG, image_augmentation, moved)
    assert not found.images[0].any()  # there is no frame at -2
    for slot, offset in list(enumerate(offsets))[1:]:
        frame = clip.frames[slot]
        images = [
            drawn.photometric(offset, camera).apply(image)
            for camera, image in enumerate(frame.images)
        ]
        coloured = dataclasses.replace(frame, images=images)
        wanted = preprocess(coloured, CONFIG.images, image_augmentation).images
        if offset == 0:
            size = (int(wanted.shape[-2]), int(wanted.shape[-1]))
            wanted = drawn.grid_mask(size).apply(wanted)
            blank = (wanted == 0).all(dim=0).all(dim=0)
            assert 0.05 < blank.float().mean() < 0.9  # all cameras are blanked at the same pixels
        assert torch.equal(found.images[slot], wanted)
        assert not torch.equal(found.images[slot], plain.images[slot])
    for name in ("rig.intrinsics", "rig.bev_from_cam", "annotations.boxes.center"):
        assert torch.equal(attrgetter(name)(found), attrgetter(name)(plain))
    for ours, theirs in zip(found.camera_annotations, plain.camera_annotations, strict=True):
        _assert_same(ours, theirs)


def test_rows_must_agree_in_what_they_have(root: Path) -> None:
    clip = load_clip(NuScenesDataset(root, VERSION), 1)
    prepared = prepare_clip(clip, CONFIG)
    without = dataclasses.replace(prepared, annotations=None)
    with pytest.raises(ValueError, match="annotations must be given for every clip or for none"):
        stack_clips([prepared, without])
    with_boxes = prepare_clip(
        load_clip(NuScenesDataset(root, VERSION), 1, camera_annotations=True), CONFIG
    )
    with pytest.raises(ValueError, match="camera_annotations must be given for every clip or for"):
        stack_clips([with_boxes, prepared])
    with pytest.raises(ValueError, match="clips must hold at least one"):
        stack_clips([])
