from __future__ import annotations

import colorsys

import numpy as np
import pytest

from bevstack.datasets.augmentation.photometric import (
    STRIP_PIXELS,
    PhotometricDistortion,
    draw_photometric,
)


def one_pixel(red: int, green: int, blue: int) -> np.ndarray:
    return np.array([[[red, green, blue]]], np.uint8)


def test_nothing_is_done_by_default() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    got = PhotometricDistortion().apply(image)
    assert np.array_equal(got, image)
    assert got is not image


def test_a_pixel_by_hand() -> None:
    """Compute (100, 50, 25) + 10 = (110, 60, 35); x 1.2 = (132, 72, 42).

    V = 132, S = 90 / 132, H = 60 (72 - 42) / 90 = 20. Twice the saturation exceeds the maximum:
    the smallest channel is 132 - 180 = -48. Hue 35 lies 35/60 of the way from red to yellow:
    green is -48 + 180 * 35 / 60 = 57. Channels (2, 0, 1).
    """
    distortion = PhotometricDistortion(
        brightness=10, contrast=1.2, saturation=2.0, hue_deg=15, channels=(2, 0, 1)
    )
    assert distortion.apply(one_pixel(100, 50, 25)).tolist() == [[[0, 132, 57]]]
    wrapped = distortion.apply(one_pixel(100, 50, 25), official_parity=True)
    # -48 wraps to 208; 132 and 57 are cut, not rounded, and may lie slightly below.
    assert int(wrapped[0, 0, 0]) in (208, 209)
    assert int(wrapped[0, 0, 1]) in (131, 132)
    assert int(wrapped[0, 0, 2]) in (56, 57)


def test_contrast_may_come_after_the_colours() -> None:
    """Turn (110, 60, 35) of hue 20 to hue 0, where green equals blue; then x 1.5."""
    last = PhotometricDistortion(brightness=10, contrast=1.5, contrast_first=False, hue_deg=-20)
    got = last.apply(one_pixel(100, 50, 25))[0, 0].tolist()
    assert got[0] == 165
    assert got[1] == pytest.approx(52.5, abs=0.6)  # 35 x 1.5, rounded either way
    assert got[2] == pytest.approx(52.5, abs=0.6)
    # Values clipped to black have no colour that a factor could restore.
    dark = PhotometricDistortion(brightness=-30, contrast=1.5, contrast_first=False, saturation=1.4)
    assert dark.apply(one_pixel(30, 20, 10)).tolist() == [[[0, 0, 0]]]


def test_bright_pixels_stay_bright_and_wrap_only_for_parity() -> None:
    brighter = PhotometricDistortion(brightness=30.7)
    image = one_pixel(250, 225, 0)
    assert brighter.apply(image).tolist() == [[[255, 255, 31]]]
    # 280.7 - 256, 255.7 and 30.7 cut off; conversion to HSV and back errs by 1e-4 at most
    assert brighter.apply(image, official_parity=True).tolist() == [[[24, 255, 30]]]


def by_loops(distortion: PhotometricDistortion, pixel: list[int]) -> list[float]:
    """Distort one pixel, step by step as the docstring of the class describes."""

    def clipped(values: list[float]) -> list[float]:
        return [min(max(value, 0.0), 255.0) for value in values]

    first = distortion.contrast if distortion.contrast_first else 1.0
    last = 1.0 if distortion.contrast_first else distortion.contrast
    values = clipped([(value + distortion.brightness) * first for value in pixel])
    hue, saturation, value = colorsys.rgb_to_hsv(*values)
    distorted = colorsys.hsv_to_rgb(
        (hue + distortion.hue_deg / 360) % 1, saturation * distortion.saturation, value
    )
    distorted = clipped([component * last for component in distorted])
    return [distorted[channel] for channel in distortion.channels]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 2), (0, 3), (3, 0)])
@pytest.mark.parametrize(
    "changes",
    [
        {"brightness": -12.5, "contrast": 1.3, "saturation": 0.6, "hue_deg": -17},
        {"brightness": 31, "contrast": 0.7, "contrast_first": False, "hue_deg": 18},
        {"saturation": 1.45, "channels": (1, 2, 0)},
        {"hue_deg": 9.5, "contrast": 1.4, "contrast_first": False, "channels": (2, 1, 0)},
        {"brightness": 20.25, "contrast": 1.3, "contrast_first": False, "channels": (1, 2, 0)},
        {"brightness": -20.75, "contrast": 0.6},
        {"channels": (2, 0, 1)},
    ],
)
def test_colours_equal_a_loop_over_pixels(shape: tuple[int, int], changes: dict) -> None:
    rng = np.random.default_rng((*shape, len(changes)))
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    before = image.copy()
    distortion = PhotometricDistortion(**changes)
    got = distortion.apply(image)
    assert got.shape == image.shape and got.dtype == np.uint8
    for row in range(shape[0]):
        for column in range(shape[1]):
            wanted = by_loops(distortion, image[row, column].tolist())
            # Half a step of rounding, and float32.
            assert np.abs(got[row, column] - np.array(wanted)).max() <= 0.501
    assert np.array_equal(image, before)


def test_a_large_image_is_distorted_like_its_pixels_one_by_one() -> None:
    """Distort an image of several strips that is a view with non-contiguous rows."""
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (2 * STRIP_PIXELS // 70, 150, 3), np.uint8)[:, ::2]
    distortion = PhotometricDistortion(brightness=5, saturation=1.3, hue_deg=-12)
    got = distortion.apply(image)
    for row, column in rng.integers((0, 0), image.shape[:2], (300, 2)):
        wanted = by_loops(distortion, image[row, column].tolist())
        assert np.abs(got[row, column] - np.array(wanted)).max() <= 0.501


def test_draws_keep_to_their_ranges_and_to_their_probabilities() -> None:
    drawn = [draw_photometric(np.random.default_rng((1, n))) for n in range(600)]
    for name, low, high, off in (
        ("brightness", -32, 32, 0),
        ("contrast", 0.5, 1.5, 1),
        ("saturation", 0.5, 1.5, 1),
        ("hue_deg", -18, 18, 0),
    ):
        used = [v for v in (getattr(d, name) for d in drawn) if v != off]
        assert 240 < len(used) < 360  # 300 +- 5 standard deviations of 12
        span = high - low
        assert low <= min(used) < low + 0.05 * span
        assert high - 0.05 * span < max(used) <= high
    assert 240 < sum(d.contrast_first for d in drawn) < 360
    # Half of the permutations are drawn; a sixth of those is the identity.
    assert 190 < sum(d.channels != (0, 1, 2) for d in drawn) < 310
    assert len({d.channels for d in drawn}) == 6
    assert draw_photometric(np.random.default_rng(3)) == draw_photometric(np.random.default_rng(3))


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image must be uint8 RGB .*got float32 \(2, 2, 3\)"):
        PhotometricDistortion().apply(np.zeros((2, 2, 3), np.float32))
