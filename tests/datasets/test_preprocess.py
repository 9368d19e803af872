from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bevstack.config import ImageConfig
from bevstack.datasets.augmentation.augment import ImageAugmentation
from bevstack.datasets.augmentation.photometric import PhotometricDistortion
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.preprocess import preprocess, resize_image
from bevstack.types import CameraAnnotations, Frame
from tests.tables.tiny_root import VERSION

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "pad_to": 1}


def _frame(*images: np.ndarray | None) -> Frame:
    count = len(images)
    intrinsics = torch.tensor([[90.0, 0, 30.0], [0, 95.0, 20.0], [0, 0, 1]]).repeat(count, 1, 1)
    intrinsics[:, 0, 2] += torch.arange(count)
    return Frame(
        images=images, intrinsics=intrinsics, ego_from_cam=torch.eye(4).repeat(count, 1, 1)
    )


def _noise(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(height * width)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "case", [pytest.param(f"ida_{n}", marks=pytest.mark.oracle(f"ida_{n}")) for n in range(3)]
)
def test_images_and_intrinsics_equal_the_official_ones(oracle_dir: Path, case: str) -> None:
    with safe_open(oracle_dir / f"bevformer_v2/{case}.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        setting = json.loads(file.metadata()["cfg"])
    left, top, right, bottom = setting["crop"]
    height, width = tensors["in/img"].shape[:2]
    assert (left, right, bottom) == (0, width, height)
    config = ImageConfig(size=(64, 160), keep_bottom=(bottom - top) / height, **PLAIN)
    image = tensors["in/img"].astype(np.uint8)  # as the official code casts before resizing
    intrinsics = torch.from_numpy(tensors["in/cam2img"])[:, :3, :3]
    lidar2cam = torch.from_numpy(tensors["in/lidar2cam"])
    frame = Frame(
        images=[image] * 6, intrinsics=intrinsics, ego_from_cam=torch.linalg.inv(lidar2cam)
    )
    prepared = preprocess(
        frame, config, ImageAugmentation(resize=setting["resize_h"] / 64, flip=setting["flip"])
    )
    wanted = tensors["out/img"]
    found = prepared.images[0].permute(1, 2, 0).numpy()
    assert found.shape == wanted.shape
    # Pillow rounds to whole levels after the rows and again after the columns, in a fixed-point
    # format of another width than torch's: one level
    assert np.abs(found - wanted).max() <= 1.0
    assert (found != wanted).mean() < 0.01
    rig = (
        prepared.rig.flipped() if setting["flip"] else prepared.rig
    )  # the official code flips only pixels
    # lidar2cam is orthonormal to 7 digits, and inverted in two ways
    np.testing.assert_allclose(rig.image_from_bev, tensors["out/lidar2img"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(rig.intrinsics, tensors["out/cam2img"][:, :3, :3], rtol=1e-12)


@pytest.mark.parametrize("size", [(40, 100), (33, 83), (13, 31), (90, 201)])
def test_resizing_is_pillows_bicubic(size: tuple[int, int]) -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = _noise(61, 149)
    wanted = np.asarray(pillow.fromarray(image).resize(size[::-1], pillow.BICUBIC)).astype(int)
    found = resize_image(torch.from_numpy(image), size).numpy().astype(int)
    # whole levels, rounded once per direction: two on white noise, which overshoots most
    assert np.abs(found - wanted).max() <= 2
    assert (found != wanted).mean() < 0.01


def test_the_bottom_of_the_image_is_kept() -> None:
    image = _noise(90, 160)
    prepared = preprocess(_frame(image), ImageConfig(size=(64, 160), keep_bottom=64 / 90, **PLAIN))
    np.testing.assert_array_equal(prepared.images[0].permute(1, 2, 0), image[26:])
    assert prepared.rig.image_size.tolist() == [[64, 160]]
    assert prepared.rig.intrinsics[0, :, 2].tolist() == [30.0, 20.0 - 26, 1.0]


def test_one_factor_fits_both_axes_and_the_rest_is_padded() -> None:
    images = (_noise(60, 80), _noise(40, 160), _noise(25, 30))
    config = ImageConfig(size=(48, 120), keep_bottom=1.0, pad_to=32)
    prepared = preprocess(_frame(*images), config)
    # by height 48/60, by width 120/160, by height 48/25: widths 64, 120, 58
    assert prepared.rig.image_size.tolist() == [[48, 64], [30, 120], [48, 58]]
    assert prepared.images.shape == (3, 3, 64, 128)
    for row, (height, width) in zip(prepared.images, [(48, 64), (30, 120), (48, 58)], strict=True):
        assert (row[:, height:] == 0).all()
        assert (row[:, :, width:] == 0).all()
        assert (row[:, :height, :width] != 0).float().mean() > 0.99


def test_channels_are_normalised_in_the_configured_order() -> None:
    image = np.full((8, 8, 3), (10, 20, 40), np.uint8)
    for order, wanted in (("rgb", (9.0, 9.0, 9.25)), ("bgr", (39.0, 9.0, 1.75))):
        config = ImageConfig(
            size=(8, 8), keep_bottom=1.0, channel_order=order, mean=(1, 2, 3), std=(1, 2, 4)
        )
        prepared = preprocess(_frame(image), config)
        assert prepared.images[0, :, 0, 0].tolist() == pytest.approx(wanted)
        assert prepared.images.dtype == torch.float32


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("resize", [1.0, 0.8, 1.3])
def test_a_marked_point_is_where_the_rig_projects_it(root: Path, resize: float, flip: bool) -> None:
    """Paint a bright spot at the projection of a 3D point, and find it after preprocessing."""
    dataset = NuScenesDataset(root, VERSION)
    frame = dataset.frame(5, load_images=False)
    sizes = [(96, 160), (96, 160), (100, 200), (100, 200)]
    spots = torch.tensor([[70.0, 66.0], [31.0, 81.0], [121.0, 73.0], [171.0, 51.0]])
    rays = torch.linalg.solve(
        frame.intrinsics, torch.cat((spots.double(), torch.ones(4, 1, dtype=torch.float64)), 1)
    )
    poses = frame.bev_from_cam()
    points = (poses[:, :3, :3] @ (8.0 * rays)[..., None])[..., 0] + poses[:, :3, 3]
    images = []
    for (height, width), (u, v) in zip(sizes, spots.tolist(), strict=True):
        rows, columns = np.mgrid[:height, :width] + 0.5
        spot = 255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 3.0**2))
        images.append(np.repeat(spot[..., None], 3, -1).astype(np.uint8))
    painted = Frame(
        images=images,
        intrinsics=frame.intrinsics,
        ego_from_cam=frame.ego_from_cam,
        world_from_ego=frame.world_from_ego,
        world_from_ego_at_camera=frame.world_from_ego_at_camera,
    )
    config = ImageConfig(size=(60, 150), keep_bottom=0.8, **{**PLAIN, "pad_to": 32})
    prepared = preprocess(painted, config, ImageAugmentation(resize=resize, flip=flip))
    uv, depth = prepared.rig.project(points)
    for camera in range(4):
        pixels = prepared.images[camera, 0].double()
        rows, columns = torch.meshgrid(
            torch.arange(pixels.shape[0]) + 0.5, torch.arange(pixels.shape[1]) + 0.5, indexing="ij"
        )
        found = torch.stack(((pixels * columns).sum(), (pixels * rows).sum())) / pixels.sum()
        assert depth[camera, camera] == pytest.approx(8.0)
        # the centroid of a blurred spot in whole levels errs by a twentieth of a pixel
        torch.testing.assert_close(found, uv[camera, camera], atol=0.05, rtol=0)


def _boxes(*sides: tuple[float, float, float, float]) -> CameraAnnotations:
    """Return boxes in the image; their other fields are numbered, to distinguish them."""
    count = len(sides)
    numbers = torch.arange(count, dtype=torch.float32)[:, None]
    return CameraAnnotations(
        torch.tensor(sides, dtype=torch.float32).reshape(count, 4),
        torch.arange(count),
        numbers + torch.arange(4) / 8,
        numbers + torch.arange(3) / 8,
        numbers + torch.arange(3) / 4,
        torch.arange(count) % 3,
        numbers[:, 0] + 0.5,
    )


@pytest.mark.parametrize(
    ("flip", "wanted"),
    [
        # of 80 x 60 pixels the lower 40 rows are kept, and doubled; the width becomes 160
        (False, [(20, 20, 60, 80), (0, 0, 10, 20), (150, 60, 160, 80)]),
        (True, [(100, 20, 140, 80), (150, 0, 160, 20), (0, 60, 10, 80)]),
    ],
)
def test_boxes_follow_the_image_by_hand(flip: bool, wanted: list) -> None:
    given = _boxes(
        (10, 30, 30, 60),
        (0, 5, 5, 30),  # extends into the cropped rows
        (40, 2, 60, 20),  # lies in the cropped rows; its lower side is at row 20
        (75, 50, 80, 60),
    )
    frame = dataclasses.replace(_frame(_noise(60, 80)), camera_annotations=(given,))
    config = ImageConfig(size=(60, 120), keep_bottom=40 / 60, **PLAIN)
    prepared = preprocess(frame, config, ImageAugmentation(resize=4 / 3, flip=flip))
    assert prepared.rig.image_size.tolist() == [[80, 160]]
    (found,) = prepared.camera_annotations
    torch.testing.assert_close(found.boxes_px, torch.tensor(wanted, dtype=torch.float32))
    kept = torch.tensor([0, 1, 3])
    for name in ("labels", "quaternion", "center_m", "size_m", "attributes", "speed_mps"):
        assert torch.equal(getattr(found, name), getattr(given, name)[kept]), name


def test_lost_cameras_have_no_boxes_and_frames_without_boxes_keep_none() -> None:
    some = _boxes((1, 5, 30, 20))
    config = ImageConfig(size=(20, 40), keep_bottom=1.0, pad_to=32)
    images = (_noise(20, 40), None, _noise(20, 40))
    frame = dataclasses.replace(_frame(*images), camera_annotations=(some, some, _boxes()))
    assert [len(b) for b in preprocess(frame, config).camera_annotations] == [1, 0, 0]
    masked = dataclasses.replace(frame, camera_mask=torch.tensor([False, False, True]))
    assert [len(b) for b in preprocess(masked, config).camera_annotations] == [0, 0, 0]
    assert preprocess(_frame(*images), config).camera_annotations is None


@pytest.mark.oracle("data_camera_boxes_follow_the_image")
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("resize", [1.0, 0.8, 1.15])
def test_real_boxes_stay_around_the_corners_that_the_rig_projects(
    real_root: Path, resize: float, flip: bool
) -> None:
    dataset = NuScenesDataset(real_root, VERSION, scenes=["scene-0103"])
    frame = dataset.frame(3, camera_annotations=True)
    config = ImageConfig(size=(320, 800), keep_bottom=640 / 900, pad_to=32)
    prepared = preprocess(frame, config, ImageAugmentation(resize=resize, flip=flip))
    total = 0
    for camera, found in enumerate(prepared.camera_annotations):
        height, width = prepared.rig.image_size[camera].tolist()
        intrinsics = prepared.rig.intrinsics[camera]
        assert bool(intrinsics[0, 0] < 0) == flip
        for row in range(len(found)):
            w, x, y, z = found.quaternion[row].double().tolist()
            turn = np.array(
                [
                    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
                ]
            )
            corners_px = []
            for signs in itertools.product((-0.5, 0.5), repeat=3):
                corner = turn @ (np.array(signs) * found.size_m[row].numpy())
                u, v, depth = intrinsics.numpy() @ (corner + found.center_m[row].numpy())
                corners_px.append((min(max(u / depth, 0), width), min(max(v / depth, 0), height)))
            wanted = (*np.min(corners_px, 0), *np.max(corners_px, 0))
            # float32 metres: half a last place of 100 m is 4e-6 m, near objects shift by 1e-3 px
            np.testing.assert_allclose(found.boxes_px[row], wanted, atol=5e-3)
            total += 1
    assert total > 10


def test_colours_of_each_image_are_distorted_independently_before_resizing() -> None:
    images = (_noise(60, 80), None, _noise(50, 70))
    dark = PhotometricDistortion(brightness=-90, contrast=1.4)
    turned = PhotometricDistortion(hue_deg=15, saturation=1.4, channels=(2, 0, 1))
    config = ImageConfig(size=(48, 120), keep_bottom=0.7, pad_to=32)
    augmentation = ImageAugmentation(resize=0.6, flip=True)
    found = preprocess(_frame(*images), config, augmentation, (dark, turned, None)).images
    by_hand = (dark.apply(images[0]), None, images[2])
    wanted = preprocess(_frame(*by_hand), config, augmentation).images
    assert torch.equal(found, wanted)
    plain = preprocess(_frame(*images), config, augmentation).images
    assert not torch.equal(found[0], plain[0])
    assert torch.equal(found[2], plain[2])
    with pytest.raises(
        ValueError, match=r"distortions must hold one entry per camera \(3\); got 2"
    ):
        preprocess(_frame(*images), config, augmentation, (dark, turned))


def test_a_lost_camera_is_black_and_stays_lost() -> None:
    prepared = preprocess(_frame(None, _noise(20, 40)), ImageConfig(size=(20, 40), keep_bottom=1.0))
    assert prepared.rig.camera_mask.tolist() == [False, True]
    assert (prepared.images[0] == 0).all()
    assert (prepared.images[1] != 0).any()
    every = preprocess(_frame(None, None), ImageConfig(size=(20, 40)))
    assert every.images.shape == (2, 3, 32, 32)


def test_the_frame_is_not_changed() -> None:
    image = _noise(40, 60)
    before = image.copy()
    frame = _frame(image)
    intrinsics = frame.intrinsics.clone()
    preprocess(frame, ImageConfig(size=(20, 40)), ImageAugmentation(flip=True))
    np.testing.assert_array_equal(image, before)
    torch.testing.assert_close(frame.intrinsics, intrinsics, rtol=0, atol=0)


def test_tiny_images_are_not_lost_to_rounding() -> None:
    prepared = preprocess(_frame(_noise(1, 50)), ImageConfig(size=(4, 4), keep_bottom=0.1))
    assert prepared.rig.image_size.tolist() == [[1, 4]]


def test_normalised_values_are_those_of_the_formula_to_the_last_bit() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(4, 64, 3)
    config = ImageConfig(size=(4, 64), keep_bottom=1.0, pad_to=8)
    found = preprocess(_frame(image, None), config).images
    assert found.shape == (2, 3, 8, 64)
    for channel, (mean, std) in enumerate(zip(config.mean, config.std, strict=True)):
        values = np.arange(256, dtype=np.float32).reshape(4, 64)
        wanted = (values - np.float32(mean)) / np.float32(std)
        np.testing.assert_array_equal(found[0, channel, :4], wanted)
    assert (found[0, :, 4:] == 0).all()
    assert (found[1] == 0).all()
