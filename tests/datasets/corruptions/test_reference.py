"""Fog, snow, motion blur and brightness against pictures and statistics of imagecorruptions 1.1.2.

``make_reference.py`` made both, with the command that it names.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bevstack.datasets.corruptions.light import (
    blur_along_line,
    blur_by_motion,
    brighten,
    to_levels,
)
from bevstack.datasets.corruptions.weather import (
    FOG,
    SNOW,
    add_fog,
    add_snow,
    mix_fog,
    mix_snow,
    plasma_field,
    shape_flakes,
)
from tests.datasets.corruptions import given

FOLDER = Path(__file__).parent
PICTURES: dict[str, NDArray[np.uint8]] = dict(np.load(FOLDER / "reference.npz"))
STATISTICS = json.loads((FOLDER / "reference.json").read_text())
PICTURE = PICTURES["picture"]
BLUR = {2: (15, 5), 4: (15, 12), 5: (20, 15)}  # length and sigma in pixels, arXiv 1903.12261
STANDARD_ERRORS = 4  # by chance, one of 15,000 comparisons is farther off


def expect_equal(ours: NDArray[np.uint8], name: str) -> None:
    """Expect equal pictures up to one level, in few values.

    Both cut to whole levels. A value that is whole, as that of each pixel's brightest colour in
    ``brighten``, may lie just below in the reference, and is then one less.
    """
    difference = np.abs(ours.astype(int) - PICTURES[name])
    assert difference.max() <= 1, name
    assert np.mean(difference > 0) < 0.05, name
    assert np.any(PICTURES[name] != PICTURE)


@pytest.mark.parametrize("severity", [2, 4, 5])
def test_brightness_is_that_of_the_reference(severity: int) -> None:
    expect_equal(brighten(PICTURE, severity), f"brightness_{severity}")


def test_black_turns_grey_and_hue_and_saturation_stay() -> None:
    pixels = np.array([[[0, 0, 0], [10, 20, 40], [255, 128, 0]]], dtype=np.uint8)
    # 40 + 51 = 91 at severity 2: the factor is 2.275; 255 cannot rise.
    assert brighten(pixels, 2).tolist() == [[[51, 51, 51], [22, 45, 91], [255, 128, 0]]]


@pytest.mark.parametrize("severity", [2, 4, 5])
def test_motion_blur_along_a_given_line_is_that_of_the_reference(severity: int) -> None:
    length, sigma = BLUR[severity]
    blurred = blur_along_line(PICTURE, length, sigma, math.radians(given.ANGLE_DEG))
    expect_equal(to_levels(blurred), f"motion_blur_{severity}")


@pytest.mark.parametrize("severity", [2, 4, 5])
def test_fog_of_a_given_field_is_that_of_the_reference(severity: int) -> None:
    height, width = given.SIZE
    field = given.given_field()[:height, :width].astype(np.float32)
    expect_equal(mix_fog(PICTURE, field, FOG[severity - 1][0]), f"fog_{severity}")


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_snow_of_given_noise_is_that_of_the_reference(severity: int) -> None:
    snow = SNOW[severity - 1]
    noise = given.given_noise().astype(np.float32)
    flakes = shape_flakes(noise, snow, math.radians(given.ANGLE_DEG - 90))
    assert 0.02 < np.mean(flakes > 0.1) < 0.98
    expect_equal(mix_snow(PICTURE, flakes, snow.clear), f"snow_{severity}")


def expect_alike(name: str, ours: NDArray[np.float64]) -> None:
    """Expect equal means of each column, up to the chance of both sets of draws."""
    mean, spread = np.array(STATISTICS[name])
    count = len(ours)
    error = np.sqrt(ours.var(axis=0, ddof=1) / count + spread**2 / given.DRAWS)
    distance = np.abs(ours.mean(axis=0) - mean)
    assert (distance <= STANDARD_ERRORS * error).all(), f"{name}: {distance / error}"


@pytest.mark.parametrize(
    ("name", "severity"),
    [(name, s) for name in ("motion_blur", "fog") for s in (2, 4, 5)]
    + [("snow", s) for s in (1, 2, 3)],
)
def test_random_pictures_have_the_mean_contrast_and_psnr_of_the_reference(
    name: str, severity: int
) -> None:
    change = {"motion_blur": blur_by_motion, "fog": add_fog, "snow": add_snow}[name]
    rng = np.random.default_rng(severity)
    drawn = [change(PICTURE, severity, rng) for _ in range(given.DRAWS)]
    expect_alike(f"{name}_{severity}", np.array([given.figures(p, PICTURE) for p in drawn]))


@pytest.mark.parametrize("decay", given.DECAYS)
def test_plasma_is_as_rough_as_the_reference_at_every_scale(decay: float) -> None:
    rng = np.random.default_rng(3)
    fields = [plasma_field(given.SPECTRUM_SIDE, decay, rng) for _ in range(given.DRAWS)]
    assert all(field.min() == 0 and field.max() == 1 for field in fields)
    expect_alike(f"field_{decay:g}", np.array([given.differences(field) for field in fields]))


def test_statistics_tell_a_wrong_decay_apart() -> None:
    rng = np.random.default_rng(3)
    fields = [plasma_field(given.SPECTRUM_SIDE, 1.5, rng) for _ in range(given.DRAWS)]
    with pytest.raises(AssertionError, match="field_2"):
        expect_alike("field_2", np.array([given.differences(field) for field in fields]))
