"""Images decoded at a fraction of their size: the same geometry and nearly the same pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.config import AugmentationConfig, Config, ImageConfig, TrainingConfig, load_config
from bevstack.datasets.augmentation.augment import ImageAugmentation, draw_augmentation
from bevstack.datasets.clips import load_clip
from bevstack.datasets.collate import prepare_clip
from bevstack.datasets.loader import collate, make_evaluation_loader, make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.preprocess import decoding_reduction, preprocess
from bevstack.types import Frame
from tests.tables.tiny_root import VERSION, read_table, write_tables


def _noise(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(height * width)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


NONE = AugmentationConfig()


@pytest.mark.parametrize(
    ("size", "wanted", "keep_bottom", "resize", "reduction"),
    [
        ((900, 1600), (640, 1600), 640 / 900, (1.0, 1.0), 1),
        ((900, 1600), (320, 800), 640 / 900, (1.0, 1.0), 2),
        ((900, 1600), (320, 801), 640 / 900, (1.0, 1.0), 2),  # the height decides
        ((900, 1600), (321, 801), 640 / 900, (1.0, 1.0), 1),
        ((900, 1600), (320, 800), 640 / 900, (0.8, 1.1), 1),  # training may draw more
        ((900, 1600), (290, 800), 640 / 900, (0.8, 1.1), 2),
        ((900, 1600), (320, 800), 640 / 900, (0.4, 0.5), 2),  # prediction has no factor
        ((900, 1600), (128, 320), 640 / 900, (1.0, 1.0), 4),
        ((900, 1600), (128, 320), 630 / 900, (1.0, 1.0), 2),  # 270 rows cut off: no multiple of 4
        ((900, 1600), (128, 320), 629 / 900, (1.0, 1.0), 1),
        ((225, 400), (64, 160), 640 / 900, (1.0, 1.0), 1),  # an odd height
        ((0, 400), (64, 160), 640 / 900, (1.0, 1.0), 1),
    ],
)
def test_files_are_decoded_as_small_as_preprocessing_allows(
    size: tuple[int, int],
    wanted: tuple[int, int],
    keep_bottom: float,
    resize: tuple[float, float],
    reduction: int,
) -> None:
    config = ImageConfig(size=wanted, keep_bottom=keep_bottom)
    assert decoding_reduction(size, config, AugmentationConfig(resize=resize)) == reduction


@pytest.mark.parametrize("name", ["bevformerv2_r50_t1", "bevformerv2_r50_t1_base"])
def test_the_published_recipe_reads_whole_images(name: str) -> None:
    config = load_config(name)
    assert decoding_reduction((900, 1600), config.images, config.augmentation) == 1


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("factor", [1.0, 0.83, 0.57])
def test_a_reduced_image_has_the_rig_of_the_whole_one(factor: float, flip: bool) -> None:
    generator = np.random.default_rng(7)
    points = torch.tensor([[0.3, -0.2, 4.0], [2.0, 1.0, 9.0], [-5.0, 0.4, 20.0]])
    reduced = []
    for _ in range(40):
        height, width = (8 * int(n) for n in generator.integers(4, 20, 2))
        wanted = tuple(int(n) for n in generator.integers(4, 60, 2))
        config = ImageConfig(size=wanted, keep_bottom=float(generator.uniform(0.3, 1.0)))
        k = decoding_reduction((height, width), config, NONE)
        reduced.append(k)
        whole = Frame(
            images=[_noise(height, width)],
            intrinsics=torch.tensor([[[90.7, 0, 31.3], [0, 95.1, 20.9], [0, 0, 1]]]),
            ego_from_cam=torch.eye(4)[None],
        )
        scale = torch.tensor((1 / k, 1 / k, 1.0), dtype=torch.float64).diag()
        small = dataclasses.replace(
            whole, images=[_noise(height // k, width // k)], intrinsics=scale @ whole.intrinsics
        )
        augmentation = ImageAugmentation(resize=factor, flip=flip)
        first, second = (preprocess(frame, config, augmentation) for frame in (whole, small))
        assert first.images.shape == second.images.shape
        assert first.rig.image_size.tolist() == second.rig.image_size.tolist()
        assert torch.equal(first.rig.intrinsics, second.rig.intrinsics)  # powers of two
        pixels = [p.rig.project(points)[0] / p.rig.image_size.flip(-1) for p in (first, second)]
        # the position of a point does not depend on the decoding
        torch.testing.assert_close(*pixels, rtol=0, atol=1e-9)
    assert set(reduced) == {1, 2, 4, 8}


def _small(size: tuple[int, int] = (8, 20)) -> Config:
    return Config(name="small", images=ImageConfig(size=size, keep_bottom=1.0, pad_to=4))


def test_images_are_decoded_as_small_as_a_configuration_allows(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    reductions = {(48, 80): 4, (50, 100): 2}  # 50 is no multiple of 4
    for index in (1, 5):
        whole, small = dataset.frame(index), dataset.frame(index, images_for=_small())
        for n, (image, reduced) in enumerate(zip(whole.images, small.images, strict=True)):
            k = reductions[image.shape[:2]]
            assert reduced.shape == (image.shape[0] // k, image.shape[1] // k, 3)
            scale = torch.tensor((1 / k, 1 / k, 1.0), dtype=torch.float64).diag()
            assert torch.equal(small.intrinsics[n], scale @ whole.intrinsics[n])
        assert torch.equal(small.bev_from_cam(), whole.bev_from_cam())


def test_images_that_are_not_shrunk_are_decoded_at_full_size(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    whole, same = dataset.frame(1), dataset.frame(1, images_for=_small((48, 100)))
    assert torch.equal(same.intrinsics, whole.intrinsics)
    for image, wanted in zip(same.images, whole.images, strict=True):
        np.testing.assert_array_equal(image, wanted)


def test_frames_of_a_clip_are_decoded_alike(root: Path) -> None:
    clip = load_clip(NuScenesDataset(root, VERSION), 1, (-1, 0, 1), images_for=_small())
    for frame in clip.frames:
        assert [image.shape[:2] for image in frame.images] == [(12, 20)] * frame.num_cameras
        assert torch.equal(frame.intrinsics, clip.current.intrinsics)


def test_a_wrong_size_in_the_table_is_refused(root: Path) -> None:
    rows = read_table(root, "sample_data")
    write_tables(root, {"sample_data": [{**row, "width": row["width"] and 84} for row in rows]})
    with pytest.raises(ValueError, match=r"image must be 84x48 .* as in the table; got 80x48"):
        NuScenesDataset(root, VERSION).frame(0, images_for=_small())


@pytest.mark.oracle("data_real_jpegs_reduced")
@pytest.mark.parametrize(
    ("size", "reduction", "bound"), [((320, 800), 2, 1.0), ((128, 320), 4, 1.5)]
)
def test_real_frames_decoded_small_give_the_same_input_up_to_a_level(
    real_root: Path, size: tuple[int, int], reduction: int, bound: float
) -> None:
    """Compare in levels RMS over the six images; measured 0.5 to 0.7 and 1.0 to 1.2."""
    dataset = NuScenesDataset(real_root, VERSION, scenes=["scene-0103"])
    config = Config(
        name="real", images=ImageConfig(size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    )
    for index in range(4):
        clips = [
            load_clip(dataset, index, camera_annotations=True, images_for=images_for)
            for images_for in (None, config)
        ]
        assert [c.current.images[0].shape[0] for c in clips] == [900, 900 // reduction]
        whole, small = (prepare_clip(clip, config) for clip in clips)
        assert torch.equal(small.rig.intrinsics, whole.rig.intrinsics)
        assert torch.equal(small.rig.image_size, whole.rig.image_size)
        difference = (small.images - whole.images)[..., : size[0], : size[1]]
        assert difference.square().mean().sqrt() < bound
        assert difference.mean().abs() < 0.1
        for ours, theirs in zip(small.camera_annotations, whole.camera_annotations, strict=True):
            assert len(ours) == len(theirs)
            assert torch.equal(ours.boxes_px, theirs.boxes_px)
            assert torch.equal(ours.labels, theirs.labels)
    assert sum(map(len, small.camera_annotations)) > 10


SMALLER = dataclasses.replace(
    _small((6, 20)),
    augmentation=AugmentationConfig(resize=(0.8, 1.15), flip_images=True),
)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_and_evaluation_decode_at_one_size(root: Path, num_workers: int) -> None:
    """Check that the resize factor 1.15 counts in evaluation, too: 1/4 of 48, not 1/8."""
    dataset = NuScenesDataset(root, VERSION)
    first = next(iter(make_evaluation_loader(dataset, SMALLER, num_workers=num_workers)))
    clip = load_clip(dataset, 0, images_for=SMALLER)
    assert clip.current.images[0].shape == (12, 20, 3)
    assert torch.equal(first.images, collate([clip], SMALLER).images)
    assert not torch.equal(first.images, collate([load_clip(dataset, 0)], SMALLER).images)
    training = TrainingConfig(batch_size=2, num_workers=num_workers)
    stream = make_training_loader(dataset, dataclasses.replace(SMALLER, training=training))
    batch = next(iter(stream))
    for row, sample in enumerate(batch.sample_tokens):
        index = dataset.index_of(sample)
        drawn, _ = draw_augmentation(SMALLER.augmentation, 0, 0, index)
        clip = load_clip(dataset, index, images_for=SMALLER)
        wanted = prepare_clip(clip, SMALLER, drawn)
        cameras, height, width = (wanted.images.shape[k] for k in (1, 3, 4))
        assert torch.equal(batch.images[row, :, :cameras, :, :height, :width], wanted.images)
