from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bevstack.config import AugmentationConfig
from bevstack.datasets.augmentation.augment import (
    BEVAugmentation,
    PixelAugmentation,
    draw_augmentation,
    lose_camera,
)
from bevstack.datasets.augmentation.grid_mask import GridMask
from bevstack.types import Annotations, Boxes3D, Clip, Frame
from bevstack.types.boxes import wrap_angle

EVERYTHING = AugmentationConfig(
    resize=(0.8, 1.2),
    flip_images=True,
    rotate_deg=22.5,
    scale=(0.95, 1.05),
    flip_x=True,
    flip_y=True,
)


def _from_legacy(boxes: torch.Tensor) -> Boxes3D:
    """Convert (x, y, z bottom, w, l, h, yaw clockwise from -y, vx, vy) to our convention."""
    x, y, bottom, width, length, height, yaw, vx, vy = boxes.double().unbind(-1)
    return Boxes3D(
        center=torch.stack((x, y, bottom + height / 2), -1),
        size=torch.stack((length, width, height), -1),
        yaw=-yaw - math.pi / 2,
        velocity=torch.stack((vx, vy), -1),
    )


def _annotations(boxes: Boxes3D) -> Annotations:
    count = len(boxes)
    return Annotations(boxes, torch.arange(count) % 10, torch.arange(count))


@pytest.mark.parametrize(
    "name",
    [pytest.param(f"bda_boxes_{n}", marks=pytest.mark.oracle(f"bda_boxes_{n}")) for n in range(4)],
)
def test_boxes_and_matrix_equal_the_official_ones(oracle_dir: Path, name: str) -> None:
    case = load_file(oracle_dir / f"bevformer_v2/{name}.safetensors")
    augmentation = BEVAugmentation(
        rotation_rad=float(case["in/rot_angle"]),
        scale=float(case["in/scale"]),
        flip_x=bool(case["in/flip_dx"]),
        flip_y=bool(case["in/flip_dy"]),
    )
    inverse = torch.linalg.inv(augmentation.matrix())  # the official code stores bev_from_augmented
    torch.testing.assert_close(inverse, case["out/bev_mat"].double(), atol=1e-6, rtol=1e-6)
    before = _annotations(_from_legacy(case["in/boxes"]))
    augmented = augmentation.apply(before)
    wanted = _from_legacy(case["out/boxes"])
    # the manifest's tolerance: the official code computes in float32
    for name in ("center", "size", "velocity"):
        augmented_value, wanted_value = getattr(augmented.boxes, name), getattr(wanted, name)
        torch.testing.assert_close(augmented_value, wanted_value, atol=1e-5, rtol=1e-5)
    difference = wrap_angle(augmented.boxes.yaw - wanted.yaw)
    assert difference.abs().max() < 1e-5
    assert torch.equal(augmented.labels, before.labels)
    assert torch.equal(augmented.num_points, before.num_points)


@pytest.mark.parametrize("flip_x", [False, True])
@pytest.mark.parametrize("flip_y", [False, True])
def test_corners_move_as_points_do(flip_x: bool, flip_y: bool) -> None:
    """Check that the augmented box's corners are the box's augmented corners, as a set."""
    augmentation = BEVAugmentation(rotation_rad=0.7, scale=1.3, flip_x=flip_x, flip_y=flip_y)
    boxes = Boxes3D(
        torch.tensor([[3.0, -7.0, 1.0], [0.0, 0.5, -2.0]], dtype=torch.float64),
        torch.tensor([[4.0, 2.0, 1.5], [0.7, 0.9, 1.8]], dtype=torch.float64),
        torch.tensor([0.4, -2.9], dtype=torch.float64),
        torch.tensor([[1.0, -2.0], [float("nan"), 0.0]], dtype=torch.float64),
    )
    augmented = augmentation.apply(_annotations(boxes)).boxes
    wanted = boxes.corners() @ augmentation.matrix().T
    distance = torch.cdist(augmented.corners(), wanted)
    assert distance.min(-1).values.max() < 1e-9
    assert distance.min(-2).values.max() < 1e-9
    heading = torch.stack((torch.cos(boxes.yaw), torch.sin(boxes.yaw)), -1)
    moved = heading @ augmentation.matrix()[:2, :2].T / 1.3  # not only up to half a turn
    torch.testing.assert_close(torch.cos(augmented.yaw), moved[:, 0])
    torch.testing.assert_close(torch.sin(augmented.yaw), moved[:, 1])
    torch.testing.assert_close(
        augmented.velocity[0], boxes.velocity[0] @ augmentation.matrix()[:2, :2].T
    )
    assert torch.isnan(augmented.velocity[1]).any()


def test_the_default_bev_augmentation_changes_nothing() -> None:
    boxes = Boxes3D(
        torch.rand(3, 3), torch.rand(3, 3), torch.tensor([0.1, -3.0, 2.0]), torch.rand(3, 2)
    )
    augmented = BEVAugmentation().apply(_annotations(boxes)).boxes
    torch.testing.assert_close(augmented.center, boxes.center)
    torch.testing.assert_close(augmented.yaw, boxes.yaw)
    assert augmented.center.dtype == torch.float32
    assert torch.equal(BEVAugmentation().matrix(), torch.eye(3, dtype=torch.float64))
    assert len(BEVAugmentation(flip_x=True).apply(Annotations.empty())) == 0


def test_the_defaults_of_the_configuration_do_nothing() -> None:
    image, bev = draw_augmentation(AugmentationConfig(), 0, 0, 0)
    assert (image.resize, image.flip) == (1.0, False)
    assert bev == BEVAugmentation()


def test_draws_depend_on_seed_epoch_and_sample() -> None:
    first = draw_augmentation(EVERYTHING, 1, 2, 3)
    assert draw_augmentation(EVERYTHING, 1, 2, 3) == first
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1)):
        assert draw_augmentation(EVERYTHING, *other) != first


def test_draws_fill_their_ranges_evenly() -> None:
    draws = [draw_augmentation(EVERYTHING, 0, 0, index) for index in range(2000)]
    resize = np.array([image.resize for image, _ in draws])
    rotation = np.degrees([bev.rotation_rad for _, bev in draws])
    scale = np.array([bev.scale for _, bev in draws])
    for values, low, high in ((resize, 0.8, 1.2), (rotation, -22.5, 22.5), (scale, 0.95, 1.05)):
        width = high - low
        assert low <= values.min() < low + 0.01 * width
        assert high - 0.01 * width < values.max() <= high
        # the mean of 2000 uniform draws errs by 0.0065 of the width (one standard deviation)
        assert abs(values.mean() - (low + high) / 2) < 0.03 * width
    for flips in (
        [image.flip for image, _ in draws],
        [bev.flip_x for _, bev in draws],
        [bev.flip_y for _, bev in draws],
    ):
        assert abs(np.mean(flips) - 0.5) < 0.05
    correlation = np.corrcoef([resize, rotation, scale, [i.flip for i, _ in draws]])
    assert np.abs(correlation - np.eye(4)).max() < 0.1


def test_switching_one_draw_on_changes_no_other_draw() -> None:
    few = AugmentationConfig(scale=(0.95, 1.05), flip_y=True)
    for index in range(20):
        _, bev = draw_augmentation(few, 0, 1, index)
        _, full = draw_augmentation(EVERYTHING, 0, 1, index)
        assert (bev.scale, bev.flip_y) == (full.scale, full.flip_y)
        assert (bev.rotation_rad, bev.flip_x) == (0.0, False)


def test_resize_steps_give_the_published_heights() -> None:
    config = AugmentationConfig(resize=(0.8, 1.2), resize_steps=9)
    heights = {
        round(640 * draw_augmentation(config, 0, 0, index)[0].resize, 6) for index in range(400)
    }
    assert heights == {512, 544, 576, 608, 640, 672, 704, 736, 768}  # v2 specification, 3.2


PIXELS = AugmentationConfig(photometric=True, grid_mask=0.7)


def _pixels(config: AugmentationConfig = PIXELS, **changes: int) -> PixelAugmentation:
    key = {"seed": 4, "epoch": 2, "index": 7} | changes
    return PixelAugmentation(config=config, **key)


def _masks(config: AugmentationConfig, count: int) -> list[GridMask | None]:
    return [_pixels(config, index=index).grid_mask((64, 96)) for index in range(count)]


def test_every_image_has_independent_colours() -> None:
    images = [(offset, camera) for offset in range(-8, 9) for camera in range(7)]
    drawn = [_pixels().photometric(*image) for image in images]
    # Each step is off with probability 1/2: 1 in 32 images is unchanged.
    changed = [d for d in drawn if d.brightness or d.hue_deg or d.saturation != 1]
    assert len(changed) > 80
    assert len({(d.brightness, d.hue_deg, d.saturation) for d in changed}) == len(changed)
    assert drawn == [_pixels().photometric(*image) for image in images]


@pytest.mark.parametrize("change", ["seed", "epoch", "index"])
def test_colours_and_masks_are_drawn_again_for_each_key(change: str) -> None:
    keys = [_pixels(**{change: number}) for number in range(100, 120)]
    assert len({repr(key.photometric(0, 0)) for key in keys}) > 15
    masks = [key.grid_mask((64, 96)) for key in keys]
    assert len({repr(mask) for mask in masks if mask is not None}) > 5
    assert keys[3].grid_mask((64, 96)) == _pixels(**{change: 103}).grid_mask((64, 96))


def test_switching_one_kind_on_changes_no_other_kind() -> None:
    alone = AugmentationConfig(photometric=True)
    for index in range(20):
        together = dataclasses.replace(EVERYTHING, photometric=True, grid_mask=1.0)
        assert draw_augmentation(together, 4, 2, index) == draw_augmentation(
            EVERYTHING, 4, 2, index
        )
        for config in (alone, together):
            augmented = _pixels(config, index=index).photometric(-1, 3)
            assert augmented == _pixels(index=index).photometric(-1, 3)
    always = _masks(AugmentationConfig(grid_mask=1.0), 200)
    often = _masks(AugmentationConfig(grid_mask=0.7, photometric=True), 200)
    assert None not in always
    assert all(mask in (None, always[n]) for n, mask in enumerate(often))
    # 60 of 200 are expected without; five standard deviations are 32
    assert 28 < often.count(None) < 92


def test_what_is_off_is_not_drawn() -> None:
    assert _pixels(AugmentationConfig()).photometric(0, 0) is None
    assert _masks(AugmentationConfig(photometric=True), 20) == [None] * 20


def _lost(probability: float, count: int, cameras: int = 5, **changes: int) -> list[int | None]:
    config = AugmentationConfig(camera_dropout=probability)
    return [_pixels(config, index=n, **changes).lost_camera(cameras) for n in range(count)]


def test_every_camera_is_lost_equally_often() -> None:
    lost = _lost(0.3, 2000)
    # 600 of 2000 are expected, 120 each of five; five standard deviations are 103 and 54
    assert abs(len([camera for camera in lost if camera is not None]) - 600) < 103
    assert all(abs(lost.count(camera) - 120) < 54 for camera in range(5))
    assert _lost(0.0, 50) == [None] * 50
    assert None not in _lost(1.0, 50)


def test_the_lost_camera_depends_on_seed_epoch_and_sample() -> None:
    assert _lost(0.5, 100) == _lost(0.5, 100)
    assert _lost(0.5, 100) != _lost(0.5, 100, epoch=3) != _lost(0.5, 100, seed=5)
    always = _lost(1.0, 100)  # a higher probability loses the same cameras, and more
    assert all(camera in (None, always[n]) for n, camera in enumerate(_lost(0.5, 100)))


def test_losing_cameras_leaves_the_other_draws_as_they_were() -> None:
    together = dataclasses.replace(PIXELS, camera_dropout=1.0)
    for index in range(20):
        plain, losing = (_pixels(config, index=index) for config in (PIXELS, together))
        assert losing.photometric(-1, 2) == plain.photometric(-1, 2)
        assert losing.grid_mask((64, 96)) == plain.grid_mask((64, 96))
        assert draw_augmentation(together, 4, 2, index) == draw_augmentation(PIXELS, 4, 2, index)


def _frame(*mask: bool) -> Frame:
    poses = torch.eye(4, dtype=torch.float64).repeat(len(mask), 1, 1)
    intrinsics = torch.tensor(((30.0, 0, 20), (0, 30, 10), (0, 0, 1))).repeat(len(mask), 1, 1)
    images = [np.full((20, 40, 3), 7, dtype=np.uint8)] * len(mask)
    return Frame(
        images=images, intrinsics=intrinsics, ego_from_cam=poses, camera_mask=torch.tensor(mask)
    )


def test_all_frames_of_a_clip_lose_the_camera() -> None:
    clip = Clip((None, _frame(True, True, True), _frame(False, True, True)), (-2, -1, 0))
    augmented = lose_camera(clip, 1)
    assert augmented.frames[0] is None and augmented.offsets == clip.offsets
    assert [f.camera_mask.tolist() for f in augmented.frames[1:]] == [
        [True, False, True],
        [False, False, True],
    ]
    assert all(frame.images[1] is None for frame in augmented.frames[1:])
    assert clip.current.camera_mask.tolist() == [False, True, True]  # unchanged


@pytest.mark.parametrize("mask", [(False, True), (True,)])
def test_the_last_working_camera_is_kept(mask: tuple[bool, ...]) -> None:
    clip = Clip((_frame(*mask),), (0,))
    assert lose_camera(clip, len(mask) - 1) is clip
