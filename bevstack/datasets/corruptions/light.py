"""Corruptions of brightness, colours and sharpness.

Brightness and motion blur: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", arXiv 1903.12261, section 3, of severity 1 to 5. Low light
and colour quantisation: RoboBEV, arXiv 2304.06719, section 3. Values are cut to whole levels, not
rounded, as in the published pictures. A severity between two whole ones has parameters between
theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB

# By severity, from 1.
_BRIGHTER_BY = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the full range
_BLUR = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # length and sigma, in pixels
_GREATEST_BLUR_DEG = 45.0  # from the horizontal
_BITS = (4, 3, 2, 1)  # that remain of each colour
_LOW_LIGHT_GAIN = (0.5, 0.4, 0.3, 0.2)
_PHOTONS = (250, 120, 50, 30)  # counted at full brightness
_READ_NOISE = (0.012, 0.018, 0.026, 0.038)  # standard deviation, of the full range


def brighten(
    image: Image,  # (H, W, 3)
    severity: float,
) -> Image:  # (H, W, 3)
    """Add a constant to the value of each pixel in HSV; hue and saturation stay.

    Scaling the three colours by one factor keeps hue and saturation, so no conversion is needed.
    """
    value = np.arange(256) / 255.0
    brighter = np.minimum(value + at_severity(_BRIGHTER_BY, severity), 1.0)
    factor = np.divide(brighter, value, out=np.zeros(256), where=value > 0)
    highest = image.max(axis=2)
    scaled = image * factor[highest].astype(np.float32)[..., None]
    # Black has no hue: it turns grey. The offset keeps whole values whole in float32.
    scaled[highest == 0] = 255.0 * brighter[0]
    return to_levels(scaled + 1e-3)


def blur_by_motion(
    image: Image,  # (H, W, 3)
    severity: float,
    rng: np.random.Generator,
    scale: float = 1.0,
) -> Image:  # (H, W, 3)
    """Average pixels along a line in a random direction within 45 degrees of the horizontal.

    Args:
        image: the picture.
        severity: 1 to 5.
        rng: draws the direction.
        scale: of the length of the line.
    """
    length, sigma = (at_severity(values, severity) for values in zip(*_BLUR, strict=True))
    angle_rad = math.radians(rng.uniform(-_GREATEST_BLUR_DEG, _GREATEST_BLUR_DEG))
    return to_levels(blur_along_line(image, length * scale, sigma * scale, angle_rad))


def blur_along_line(
    image: NDArray[np.uint8] | NDArray[np.float32],  # (H, W) or (H, W, 3)
    length_px: float,
    sigma_px: float,
    angle_rad: float,
) -> NDArray[np.float32]:  # (H, W) or (H, W, 3)
    """Average each pixel with those behind it along a line, by one half of a Gaussian.

    The line holds ``2 length_px + 1`` points, a pixel apart and rounded to whole pixels. The edge
    of the picture is repeated outwards.

    Args:
        image: the picture.
        length_px: half the length of the line.
        sigma_px: standard deviation of the Gaussian.
        angle_rad: direction of the motion, from x right to y down.
    """
    reach = np.arange(2 * round(length_px) + 1)
    weights = np.exp(-(reach**2) / (2 * sigma_px**2))
    columns, rows = (np.rint(reach * f(angle_rad)).astype(int) for f in (math.cos, math.sin))
    kernel = np.zeros((2 * reach[-1] + 1, 2 * reach[-1] + 1), dtype=np.float32)
    np.add.at(kernel, (reach[-1] + rows, reach[-1] + columns), weights / weights.sum())
    blurred = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, dtype=np.float32)


def quantise_colours(
    image: Image,  # (H, W, 3)
    severity: float,
) -> Image:  # (H, W, 3)
    """Keep the highest 5 - severity bits of each colour.

    Between two whole severities, the colours are cut to steps between those of both.
    """
    step = 2.0 ** (8 - at_severity(_BITS, severity))  # a power of two for whole severities
    cut = np.floor(np.floor(np.arange(256) / step) * step).astype(np.uint8)
    return np.asarray(cut[image], dtype=np.uint8)


def darken(
    image: Image,  # (H, W, 3)
    severity: float,
    rng: np.random.Generator,
) -> Image:  # (H, W, 3)
    """Darken by a gamma of 2 and a gain, and add noise of photons and of reading.

    The levels of the picture are stretched to its full range first.

    Args:
        image: the picture.
        severity: 1 to 4; the gain is 0.5 to 0.2.
        rng: draws the noise.
    """
    low, high = float(image.min()), float(image.max())
    light = (np.arange(256) - low).clip(0) / max(high - low, 1.0)
    light = at_severity(_LOW_LIGHT_GAIN, severity) * light.clip(0, 1) ** 2
    photons = at_severity(_PHOTONS, severity)
    counted = rng.poisson(light[image] * photons).astype(np.float32) / photons
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(
        at_severity(_READ_NOISE, severity)
    )
    return to_levels((counted.clip(0, 1) + noise) * 255)


def at_severity(
    values: Sequence[float],  # by severity, from 1
    severity: float,
) -> float:
    """Return the value at a severity, interpolated between two whole ones.

    Raises:
        ValueError: the severity lies outside the table.
    """
    if not 1 <= severity <= len(values):
        raise ValueError(f"severity must lie in [1, {len(values)}]; got {severity}")
    below = min(int(severity), len(values) - 1)
    share = severity - below
    if share == 0:
        return values[below - 1]
    if share == 1:
        return values[below]
    return (1 - share) * values[below - 1] + share * values[below]


def to_levels(values: NDArray[np.float32]) -> Image:
    """Cut values to whole levels from 0 to 255."""
    return np.asarray(values.clip(0, 255), dtype=np.float32).astype(np.uint8)
