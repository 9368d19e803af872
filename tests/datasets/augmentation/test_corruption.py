"""Corruption of images in training: off by default, drawn from seeds alone, resumed bit for bit."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from bevstack.config import AugmentationConfig, Config
from bevstack.config.training import PICTURE_CORRUPTIONS
from bevstack.datasets.augmentation.augment import PixelAugmentation
from bevstack.datasets.corruptions import CORRUPTIONS, LEVELS, corrupt_by, corrupt_image
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Clip, Frame
from tests.small_world import CONFIG, small_world


def pixels(probability: float = 1.0, index: int = 0, epoch: int = 2, seed: int = 4, **options):
    config = AugmentationConfig(corruption=probability, **options)
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
        kind, severity = drawn.corruption() or (None, 0)
        assert kind is not None
        level = LEVELS[kind.severities.index(severity)]
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
    levels = Counter(LEVELS[kind.severities.index(severity)] for kind, severity in found)
    assert kinds.keys() == set(PICTURE_CORRUPTIONS) and len(kinds) == 6
    assert all(abs(count - 150) < 60 for count in kinds.values())
    assert levels.keys() == set(LEVELS) and all(abs(n - 300) < 80 for n in levels.values())
    always = [pixels(1.0, index=n).corruption() for n in range(3000)]
    assert all(d in (None, other) for d, other in zip(drawn, always, strict=True))


def test_the_named_kinds_are_those_that_change_pictures() -> None:
    kinds = {name for name, kind in CORRUPTIONS.items() if not kind.loses_cameras}
    assert set(PICTURE_CORRUPTIONS) == kinds
    for names in ((), ("Fog", "FrameLost"), ("fog",)):
        with pytest.raises(ValueError, match=r"augmentation.corruption_kinds must be names among"):
            AugmentationConfig(corruption_kinds=names)


def test_a_kind_that_is_named_twice_is_drawn_twice_as_often() -> None:
    named = ("LowLight", "Fog", "LowLight")
    drawn = [pixels(index=n, corruption_kinds=named).corruption() for n in range(900)]
    kinds = Counter(kind.name for kind, _ in drawn if kind)
    assert kinds.keys() == {"LowLight", "Fog"}
    assert abs(kinds["LowLight"] - 600) < 71  # five standard deviations


def test_severities_between_the_levels_are_none_of_the_benchmark() -> None:
    found: dict[str, list[float]] = {}
    for index in range(1200):
        drawn = pixels(index=index, corruption_severity="between").corruption()
        assert drawn is not None
        found.setdefault(drawn[0].name, []).append(drawn[1])
    assert found.keys() == set(PICTURE_CORRUPTIONS)
    for name, severities in found.items():
        hard = CORRUPTIONS[name].severities[-1]
        assert all(0.25 <= severity % 1 <= 0.75 for severity in severities)
        assert {int(severity) for severity in severities} == set(range(1, hard))
    with pytest.raises(ValueError, match=r"corruption_severity must be one of \('levels', 'b"):
        AugmentationConfig(corruption_severity="hard")


@pytest.mark.parametrize("name", PICTURE_CORRUPTIONS)
def test_a_severity_between_two_changes_a_picture_by_an_amount_between(name: str) -> None:
    columns, rows = np.meshgrid(np.arange(320), np.arange(180))
    waves = 120 + 60 * np.sin(columns / 5) + 50 * np.cos(rows / 7)  # smooth, so that blur shows
    image = np.repeat(waves.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    def change(severity: float) -> float:
        draws = [
            corrupt_by(image, CORRUPTIONS[name], severity, np.random.default_rng(seed))
            for seed in range(8)
        ]
        return float(np.mean([np.abs(d.astype(float) - image).mean() for d in draws]))

    first = 3.0 if name == "Snow" else 2.0  # flakes of severity 2 and 3 differ in size and number
    low, middle, high = (change(first + step) for step in (0, 0.5, 1))
    assert low < middle < high
    if name in ("ColorQuant", "Brightness", "LowLight"):  # without a random field: levels are exact
        level = LEVELS[CORRUPTIONS[name].severities.index(2)]
        rng = np.random.default_rng(1)
        exact = corrupt_image(image, CORRUPTIONS[name], level, np.random.default_rng(1))
        assert np.array_equal(exact, corrupt_by(image, CORRUPTIONS[name], 2.0, rng))
    with pytest.raises(ValueError, match=r"severity must lie in"):
        corrupt_by(image, CORRUPTIONS[name], 9.5, np.random.default_rng(0))


def dropped(index: int, share: float = 1.0) -> Clip:
    config = AugmentationConfig(picture_dropout=share)
    return PixelAugmentation(config=config, seed=4, epoch=2, index=index).drop_pictures(make_clip())


def test_pictures_are_lost_one_by_one_and_the_current_frame_keeps_one() -> None:
    clip = make_clip()
    assert dropped(0, share=0.0) is clip or same(dropped(0, share=0.0), clip)
    current, past, past_missing = [], [], 0
    for index in range(600):
        lost = dropped(index)
        assert lost.offsets == clip.offsets and lost.frames[0] is None
        assert any(image is not None for image in lost.current.images)
        for frame, source in zip(lost.frames[1:], clip.frames[1:], strict=True):
            if frame is None:
                past_missing += 1
                continue
            assert source is not None and frame.camera_mask is not None
            mask = frame.camera_mask.tolist()
            assert mask == [image is not None for image in frame.images]
            pairs = zip(frame.images, source.images, strict=True)
            assert all(i is None or bool(np.array_equal(i, s)) for i, s in pairs)
        current.append(sum(image is not None for image in lost.current.images))
        before = lost.frames[1]
        past.append(0 if before is None else sum(image is not None for image in before.images))
    # Each of the three past pictures remains with a mean probability of 1 - 5/12.
    assert abs(np.mean(past) - 3 * 7 / 12) < 0.2 and past_missing > 30
    assert set(current) == {1, 2}  # the second camera was lost before


def test_half_of_the_samples_lose_pictures_if_the_probability_is_half() -> None:
    changed = [not same(dropped(n, 0.5), make_clip()) for n in range(200)]
    always = [not same(dropped(n, 1.0), make_clip()) for n in range(200)]
    assert sum(changed) < 0.7 * sum(always)
    assert all(a >= c for a, c in zip(always, changed, strict=True))


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
            augmentation=AugmentationConfig(
                corruption=probability, picture_dropout=probability, corruption_severity="between"
            ),
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
