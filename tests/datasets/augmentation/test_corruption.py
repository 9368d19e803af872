"""Corruption of images in training: off by default, drawn from seeds alone, resumed bit for bit."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from bevstack.config import AugmentationConfig, Config
from bevstack.datasets.augmentation.augment import PICTURE_CORRUPTIONS, PixelAugmentation
from bevstack.datasets.corruptions import LEVELS, corrupt_image
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Clip, Frame
from tests.small_world import CONFIG, small_world


def pixels(probability: float = 1.0, index: int = 0, epoch: int = 2, seed: int = 4):
    config = AugmentationConfig(corruption=probability)
    return PixelAugmentation(config=config, seed=seed, epoch=epoch, index=index)


def make_clip(draw: int = 0) -> Clip:
    """Return a clip of two frames; the second camera of the current one is lost."""
    rng = np.random.default_rng(draw)
    frames = []
    for mask in ((True, True, True), (True, False, True)):
        images = [rng.integers(0, 255, (36, 64, 3), dtype=np.uint8) if m else None for m in mask]
        poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
        intrinsics = torch.tensor(((30.0, 0, 20), (0, 30, 10), (0, 0, 1))).repeat(3, 1, 1)
        frames.append(Frame(images=images, intrinsics=intrinsics, ego_from_cam=poses))
    return Clip((None, *frames), (-2, -1, 0))


def images_of(clip: Clip) -> list[np.ndarray | None]:
    return [image for frame in clip.frames if frame is not None for image in frame.images]


def same(one: Clip, other: Clip) -> bool:
    pairs = zip(images_of(one), images_of(other), strict=True)
    return all(a is b if a is None or b is None else bool(np.array_equal(a, b)) for a, b in pairs)


def test_it_is_off_by_default_and_out_of_range_is_refused() -> None:
    clip = make_clip()
    assert AugmentationConfig().corruption == 0.0
    assert pixels(0.0).corruption() is None and pixels(0.0).corrupt(clip) is clip
    with pytest.raises(ValueError, match=r"augmentation.corruption must lie in \[0, 1\]; got 1.5"):
        AugmentationConfig(corruption=1.5)


def test_all_images_of_a_sample_have_one_kind_and_noise_of_their_own() -> None:
    clip = make_clip()
    for index in range(12):
        drawn = pixels(index=index)
        kind, level = drawn.corruption() or (None, "")
        assert kind is not None
        corrupted = drawn.corrupt(clip)
        assert not same(corrupted, clip)
        assert [image is None for image in images_of(corrupted)] == [
            image is None for image in images_of(clip)
        ]
        for frame, source, offset in zip(
            corrupted.frames[1:], clip.frames[1:], (-1, 0), strict=True
        ):
            assert frame is not None and source is not None
            for camera, image in enumerate(source.images):
                if image is None:
                    continue
                rng = drawn._stream("noise", offset, camera)
                wanted = corrupt_image(image, kind, level, rng)
                assert np.array_equal(frame.images[camera], wanted)


def test_kinds_and_levels_are_drawn_equally_often() -> None:
    drawn = [pixels(0.3, index=n).corruption() for n in range(3000)]
    found = [d for d in drawn if d is not None]
    assert abs(len(found) - 900) < 126  # five standard deviations
    kinds = Counter(kind.name for kind, _ in found)
    levels = Counter(level for _, level in found)
    assert kinds.keys() == {kind.name for kind in PICTURE_CORRUPTIONS} and len(kinds) == 6
    assert all(abs(count - 150) < 60 for count in kinds.values())
    assert levels.keys() == set(LEVELS) and all(abs(n - 300) < 80 for n in levels.values())
    always = [pixels(1.0, index=n).corruption() for n in range(3000)]
    assert all(d in (None, other) for d, other in zip(drawn, always, strict=True))


def test_draws_depend_on_seed_epoch_and_sample_and_on_nothing_else() -> None:
    clip = make_clip()
    first = pixels().corrupt(clip)
    assert same(first, pixels().corrupt(clip))
    for other in (pixels(index=1), pixels(epoch=3), pixels(seed=5)):
        assert not same(first, other.corrupt(clip))
    both = AugmentationConfig(corruption=1.0, photometric=True, camera_dropout=0.5)
    alone = dataclasses.replace(both, corruption=0.0)
    for index in range(10):
        one, two = (
            PixelAugmentation(config=c, seed=4, epoch=2, index=index) for c in (both, alone)
        )
        assert one.photometric(-1, 2) == two.photometric(-1, 2)
        assert one.lost_camera(5) == two.lost_camera(5)


def test_a_resumed_loader_and_any_workers_give_the_same_images(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = NuScenesDataset(small_world(tmp_path_factory), "v1.0-synth", split="synth_train")

    def take(start: int, count: int, probability: float, workers: int = 0) -> list[torch.Tensor]:
        config: Config = dataclasses.replace(
            CONFIG,
            augmentation=AugmentationConfig(corruption=probability),
            training=dataclasses.replace(CONFIG.training, num_workers=workers),
        )
        loader = make_training_loader(dataset, config, start=start)
        return [batch.images for batch in itertools.islice(loader, count)]

    whole, clean = take(0, 6, 0.6), take(0, 6, 0.0)
    resumed = take(6, 3, 0.6, workers=1)  # samples: three batches of two are done
    for one, other in zip(whole[3:], resumed, strict=True):
        assert torch.equal(one, other)
    changed = [not torch.equal(a, b) for a, b in zip(whole, clean, strict=True)]
    assert any(changed)
