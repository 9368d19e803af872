"""Corruptions by weather: fog and snow.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", arXiv 1903.12261, section 3, of severity 1 to 5. A severity between two whole ones
has parameters between theirs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.corruptions.light import Image, at_severity, blur_along_line, to_levels


class Snow(NamedTuple):
    """Snow of one severity."""

    mean: float  # of the noise that flakes are made of, of the full range
    spread: float  # its standard deviation
    enlarged: float  # size of a flake in pixels
    threshold: float  # weaker noise is no flake
    length_px: float  # of the path of a flake
    sigma_px: float  # of the Gaussian along it
    clear: float  # share of the picture that is not whitened


# By severity, from 1.
FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # density, decay of the field
SNOW = (
    Snow(0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    Snow(0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    Snow(0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    Snow(0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    Snow(0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
_FALL_DEG = (-135.0, -45.0)  # directions of falling flakes


def add_fog(
    image: Image,  # (H, W, 3)
    severity: float,
    rng: np.random.Generator,
) -> Image:  # (H, W, 3)
    """Add fog: a random field of plasma, which lightens all colours and lowers the contrast.

    Args:
        image: the picture.
        severity: 1 to 5.
        rng: draws the field.
    """
    density, decay = (at_severity(values, severity) for values in zip(*FOG, strict=True))
    height, width = image.shape[:2]
    side = 1 << (max(height, width) - 1).bit_length()
    field = plasma_field(side, decay, rng)[:height, :width]
    return mix_fog(image, field, density)


def mix_fog(
    image: Image,  # (H, W, 3)
    field: NDArray[np.float32],  # (H, W) 0 to 1
    density: float,
) -> Image:  # (H, W, 3)
    """Add a field times a density, and scale the sum to the brightest level of the picture."""
    highest = float(image.max()) / 255
    foggy = image.astype(np.float32) + (255 * density) * field[..., None]
    return to_levels(foggy * np.float32(highest / (highest + density)))


def plasma_field(
    side: int,  # a power of two
    decay: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:  # (side, side) 0 to 1
    """Draw a plasma fractal by the diamond-square algorithm, periodic in both directions.

    Fournier, Fussell and Carpenter, "Computer Rendering of Stochastic Models", Communications of
    the ACM 25(6), 1982. Points between known ones get their mean plus a uniform deviation, whose
    range falls by ``decay`` squared from each grid to the next one of half the spacing.
    """
    field = np.zeros((side, side), dtype=np.float32)
    amplitude, step = 1.0, side
    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        beside = corners + np.roll(corners, -1, axis=1)
        centers = _deviate((beside + np.roll(beside, -1, axis=0)) / 4, amplitude, rng)
        field[half::step, half::step] = centers
        # The middle of each edge has two corners and two centres as neighbours.
        above = centers + np.roll(centers, 1, axis=0)
        field[::step, half::step] = _deviate((beside + above) / 4, amplitude, rng)
        left = centers + np.roll(centers, 1, axis=1)
        below = corners + np.roll(corners, -1, axis=0)
        field[half::step, ::step] = _deviate((below + left) / 4, amplitude, rng)
        step, amplitude = half, amplitude / decay**2
    field -= field.min()
    return np.asarray(field / max(float(field.max()), 1e-12), dtype=np.float32)


def _deviate(
    mean: NDArray[np.float32], amplitude: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    deviation = 2 * rng.random(mean.shape, dtype=np.float32) - 1
    return np.asarray(mean + np.float32(amplitude) * deviation, dtype=np.float32)


def add_snow(
    image: Image,  # (H, W, 3)
    severity: float,
    rng: np.random.Generator,
    scale: float = 1.0,
) -> Image:  # (H, W, 3)
    """Add falling flakes, and the same flakes turned by 180 degrees, to the whitened picture.

    Args:
        image: the picture.
        severity: 1 to 5.
        rng: draws the flakes and their direction.
        scale: of flakes and their paths; 0.5 draws them for a picture of twice the size and then
            shrinks them.
    """
    snow = Snow(*(at_severity(values, severity) for values in zip(*SNOW, strict=True)))
    height, width = image.shape[:2]
    noise = _draw_noise((round(height / scale), round(width / scale)), snow, rng)
    flakes = shape_flakes(noise, snow, math.radians(rng.uniform(*_FALL_DEG)))
    if scale != 1:
        shrunk = cv2.resize(flakes, (width, height), interpolation=cv2.INTER_AREA)
        flakes = np.asarray(shrunk, dtype=np.float32)
    return mix_snow(image, flakes, snow.clear)


def shape_flakes(
    noise: NDArray[np.float32],  # (H, W)
    snow: Snow,
    angle_rad: float,
) -> NDArray[np.float32]:  # (H, W) 0 to 1, in 255 levels
    """Turn noise above the threshold into flakes, blurred along the path of their fall.

    Args:
        noise: enlarged to the size of a flake.
        snow: threshold and length of the path.
        angle_rad: direction of the fall, from x right to y down.
    """
    flakes = np.where(noise < snow.threshold, 0, noise).clip(0, 1).astype(np.float32)
    flakes = blur_along_line(flakes, snow.length_px, snow.sigma_px, angle_rad)
    return np.asarray(np.rint(255 * flakes.clip(0, 1)) / 255, dtype=np.float32)


def mix_snow(
    image: Image,  # (H, W, 3)
    flakes: NDArray[np.float32],  # (H, W) 0 to 1
    clear: float,
) -> Image:  # (H, W, 3)
    """Add the flakes twice, once turned, to the picture whitened by its grey levels."""
    light = image.astype(np.float32) / 255
    grey = cv2.cvtColor(light, cv2.COLOR_RGB2GRAY)[..., None] * 1.5 + 0.5
    whitened = clear * light + (1 - clear) * np.maximum(light, grey)
    return to_levels(255 * (whitened + (flakes + flakes[::-1, ::-1])[..., None]))


def _draw_noise(
    size: tuple[int, int],  # (H, W)
    snow: Snow,
    rng: np.random.Generator,
) -> NDArray[np.float32]:  # (H, W)
    """Draw coarse noise and enlarge it linearly, its corners onto those of the enlarged noise."""
    cells = [math.ceil(side / snow.enlarged) for side in size]
    noise = snow.mean + snow.spread * rng.standard_normal(cells, dtype=np.float32)
    steps = [(cell - 1) / max(round(cell * snow.enlarged) - 1, 1) for cell in cells]
    cells_from_pixels = np.array(((steps[1], 0, 0), (0, steps[0], 0)))
    enlarged = cv2.warpAffine(
        noise,
        cells_from_pixels,
        size[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(enlarged, dtype=np.float32)
