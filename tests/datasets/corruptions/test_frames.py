"""Corruption of frames: lost cameras, seeds, colours and light."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bevstack.datasets.corruptions import (
    CORRUPTIONS,
    LEVELS,
    corrupt_frame,
    find_corruptions,
    lost_cameras,
)
from bevstack.datasets.corruptions.light import darken, quantise_colours
from bevstack.types import Frame

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "LEFT", "RIGHT")
RANDOM = ("MotionBlur", "LowLight", "Fog", "Snow")


def make_frame(token: str = "sample", size: tuple[int, int] = (40, 64)) -> Frame:
    """Return a frame of six different pictures."""
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in CAMERAS]
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(6, 1, 1)
    poses = torch.eye(4, dtype=torch.float64).repeat(6, 1, 1)
    return Frame(
        images=images,
        intrinsics=intrinsics,
        ego_from_cam=poses,
        camera_names=CAMERAS,
        sample_token=token,
    )


def pictures(frame: Frame) -> dict[str, NDArray[np.uint8]]:
    return {n: i for n, i in zip(frame.camera_names, frame.images, strict=True) if i is not None}


def test_severities_are_those_of_the_benchmark() -> None:
    assert {name: corruption.severities for name, corruption in CORRUPTIONS.items()} == {
        "CameraCrash": (2, 4, 5),
        "FrameLost": (2, 4, 5),
        "MotionBlur": (2, 4, 5),
        "ColorQuant": (1, 2, 3),
        "Brightness": (2, 4, 5),
        "LowLight": (2, 3, 4),
        "Fog": (2, 4, 5),
        "Snow": (1, 2, 3),
    }


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in RANDOM])
def test_corruptions_without_draws_repeat(name: str) -> None:
    once, twice = (corrupt_frame(make_frame(), CORRUPTIONS[name], "hard") for _ in range(2))
    ours, theirs = pictures(once), pictures(twice)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize("name", RANDOM)
def test_draws_depend_on_level_sample_and_camera_but_not_on_the_order(name: str) -> None:
    corruption = CORRUPTIONS[name]
    frame = make_frame()
    grey = np.tile((np.arange(800) // 5 + 40).astype(np.uint8)[None, :, None], (40, 1, 3))
    frame = replace(
        frame, images=[grey] * 6
    )  # wide enough to be blurred; the same picture, so that draws alone differ
    ours = pictures(corrupt_frame(frame, corruption, "easy"))
    corrupt_frame(make_frame("another sample in between"), corruption, "easy")
    backwards = replace(frame, camera_names=CAMERAS[::-1])
    again = pictures(corrupt_frame(backwards, corruption, "easy"))
    assert all(np.array_equal(ours[n], again[n]) for n in CAMERAS)
    assert not np.array_equal(ours["LEFT"], ours["RIGHT"])
    other = pictures(corrupt_frame(replace(frame, sample_token="b"), corruption, "easy"))
    assert not np.array_equal(ours["LEFT"], other["LEFT"])
    harder = pictures(corrupt_frame(frame, corruption, "hard"))
    assert not np.array_equal(ours["LEFT"], harder["LEFT"])
    assert np.array_equal(frame.images[0], grey)  # the input stays


def test_crashed_cameras_are_the_same_in_every_sample() -> None:
    crash = CORRUPTIONS["CameraCrash"]
    for level, most in zip(LEVELS, (2, 4, 5), strict=True):
        lost = [lost_cameras(crash, level, f"sample {i}", CAMERAS) for i in range(20)]
        assert len(set(lost)) == 1 and 1 <= len(lost[0]) <= most
        assert lost[0] == lost_cameras(crash, level, "", CAMERAS[::-1])


def test_frames_are_lost_with_a_third_two_thirds_and_five_sixths() -> None:
    count = 2000
    for level, share in zip(LEVELS, (2 / 6, 4 / 6, 5 / 6), strict=True):
        lost = [
            lost_cameras(CORRUPTIONS["FrameLost"], level, f"sample {i}", CAMERAS)
            for i in range(count)
        ]
        rows = np.array([[name in names for name in CAMERAS] for names in lost])
        error = math.sqrt(share * (1 - share) / count)
        # Four standard errors of each camera; of two cameras at once, if they are independent.
        assert np.abs(rows.mean(axis=0) - share).max() < 4 * error
        assert abs((rows[:, 0] & rows[:, 5]).mean() - share**2) < 4 * error


def test_lost_cameras_are_masked_or_black_as_published() -> None:
    frame, crash = make_frame(), CORRUPTIONS["CameraCrash"]
    frame = replace(frame, images=[None, *frame.images[1:]], camera_mask=None)
    lost = lost_cameras(crash, "hard", "sample", CAMERAS)
    masked = corrupt_frame(frame, crash, "hard")
    assert masked.camera_mask is not None
    kept = [name not in lost and name != CAMERAS[0] for name in CAMERAS]
    assert masked.camera_mask.tolist() == kept
    assert [image is not None for image in masked.images] == kept
    black = corrupt_frame(frame, crash, "hard", black=True)
    assert black.camera_mask is not None
    assert black.camera_mask.tolist() == [False] + [True] * 5  # the missing picture stays missing
    for name, image, original in zip(CAMERAS, black.images, frame.images, strict=True):
        if original is not None:
            assert image is not None
            assert np.array_equal(image, original * 0 if name in lost else original)


@pytest.mark.parametrize(("severity", "bits"), [(1, 4), (2, 3), (3, 2)])
def test_colours_keep_the_highest_bits_as_in_pillow(severity: int, bits: int) -> None:
    image = make_frame().images[0]
    assert image is not None
    wanted = np.asarray(ImageOps.posterize(Image.fromarray(image), bits))
    assert np.array_equal(quantise_colours(image, severity), wanted)


@pytest.mark.parametrize(
    ("severity", "gain", "photons", "noise"),
    [(2, 0.4, 120, 0.018), (3, 0.3, 50, 0.026), (4, 0.2, 30, 0.038)],
)
def test_low_light_has_the_gain_and_noise_of_the_benchmark(
    severity: int, gain: float, photons: float, noise: float
) -> None:
    levels = np.array([0, 150, 200, 255], dtype=np.uint8)  # they span the full range already
    image = np.tile(levels[None, :, None], (3000, 1, 3))
    dark = darken(image, severity, np.random.default_rng(1)) / 255
    light = gain * (levels[2:] / 255.0) ** 2
    columns = dark[:, 2:].transpose(1, 0, 2).reshape(2, -1)
    variance = light / photons + noise**2
    # Cutting to whole levels takes half a level; noise below 0 is cut where light is near 0, which
    # brings the darkest of these levels up by less than a tenth of the noise.
    assert np.abs(columns.mean(axis=1) - light + 0.5 / 255).max() < 0.1 * noise
    assert np.abs(columns.var(axis=1) / variance - 1).max() < 0.15


def test_low_light_stretches_the_levels_first() -> None:
    pale = np.full((200, 100, 3), 100, dtype=np.uint8)
    pale[:, 50:] = 120
    dark = darken(pale, 2, np.random.default_rng(1)).astype(float)
    assert dark[:, :50].mean() < 5 and abs(dark[:, 50:].mean() - 0.4 * 255) < 2


@pytest.mark.parametrize("name", ["MotionBlur", "Snow"])
def test_lengths_are_scaled_to_the_width_of_the_picture(name: str) -> None:
    """A picture of a quarter of the width gets a blur, and flakes, of a quarter of the length."""

    def roughness(width: int) -> float:
        stripes = np.zeros((width // 4, width, 3), dtype=np.uint8)
        stripes[:, (np.arange(width) * 1600 // width) % 100 < 50] = 200
        frame = replace(make_frame(), images=[stripes] * 6)
        changed = pictures(corrupt_frame(frame, CORRUPTIONS[name], "moderate"))
        values = np.stack(list(changed.values())).astype(float)
        small = values.reshape(6, 100, width // 400, 400, width // 400, 3).mean(axis=(2, 4))
        return float(np.abs(np.diff(small, axis=2)).mean())

    assert abs(roughness(400) / roughness(1600) - 1) < 0.1  # up to rounding to whole pixels


def test_names_are_found_in_any_case_and_order_and_wrong_ones_are_named() -> None:
    assert [c.name for c in find_corruptions(["snow", "FOG"])] == ["Fog", "Snow"]
    assert len(find_corruptions(["all"])) == 8
    with pytest.raises(ValueError, match="got 'Smog'"):
        find_corruptions(["Smog"])
    with pytest.raises(ValueError, match="did you mean Brightness"):
        find_corruptions(["Brightnes"])
    with pytest.raises(ValueError, match="got none"):
        find_corruptions([])


def test_frames_without_token_and_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="sample_token must be given"):
        corrupt_frame(make_frame(""), CORRUPTIONS["Fog"], "easy")
    with pytest.raises(ValueError, match="level must be one of easy, moderate, hard; got 'mid'"):
        corrupt_frame(make_frame(), CORRUPTIONS["Fog"], "mid")
