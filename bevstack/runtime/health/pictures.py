"""Statistics of a camera's picture that show a fault of the camera, on reduced grey pictures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.config.health import HealthConfig
from bevstack.types.health import CameraState

_SATURATED = 250  # level from which a pixel counts as saturated
_EDGES = 97.0  # percentile: 3 % of the pixels of a street lie at clear edges
_COARSE = 4  # reduction of the coarse band, which lies between 2 and 8 pixels
_STEP = 2  # every second row and column suffices for percentiles
# Second difference along rows and columns: it vanishes on edges along either (Immerkaer 1996, Fast
# Noise Variance Estimation). The median replaces the mean, since textures are not noise.
_NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_NOISE_GAIN = 6.0 * 0.6745  # of the mask, and of the median of a normal distribution


@dataclass(frozen=True)
class PictureStatistics:
    """Brightness, sharpness and noise of one picture, in grey levels."""

    bright: float  # 99th percentile
    saturated: float  # share of the pixels
    sharpness: float  # edges in the finest band of the picture, divided by those in the next band
    texture: float  # edges in a coarse band, which a blurred picture still shows
    noise: float  # standard deviation
    size: tuple[int, int]  # (h, w) pixels


def reduce_picture(
    image: NDArray[np.uint8],  # (H, W, 3)
    width_px: int,
) -> NDArray[np.uint8]:  # (h, w) grey
    """Return the green channel, reduced to a width; a narrower image keeps its size."""
    green = cv2.extractChannel(np.ascontiguousarray(image), 1)
    height, width = green.shape
    if width > width_px:
        size = (width_px, max(1, round(height * width_px / width)))
        green = cv2.resize(green, size, interpolation=cv2.INTER_AREA)
    return np.asarray(green, np.uint8)


def reduced_intrinsics(
    intrinsics: NDArray[np.float64],  # (3, 3) pixels of the image
    size: tuple[int, int],  # (H, W) of the image
    reduced: tuple[int, int],  # (h, w)
) -> NDArray[np.float64]:  # (3, 3)
    """Return the intrinsics of a reduced picture."""
    scale = np.array([[reduced[1] / size[1]], [reduced[0] / size[0]], [1.0]])
    return np.asarray(intrinsics * scale)


def measure_picture(
    grey: NDArray[np.uint8],  # (h, w)
) -> PictureStatistics:
    """Measure brightness, sharpness and noise of a reduced picture."""
    levels = grey.astype(np.float32)
    fine = cv2.GaussianBlur(levels, (0, 0), 1.0)
    coarse = cv2.GaussianBlur(levels, (0, 0), 2.0)
    detail = _percentile(np.abs(levels - fine), _EDGES)
    band = _percentile(np.abs(fine - coarse), _EDGES)
    small = cv2.resize(levels, None, fx=1 / _COARSE, fy=1 / _COARSE, interpolation=cv2.INTER_AREA)
    texture = np.abs(small - cv2.GaussianBlur(small, (0, 0), 2.0))
    noise = np.abs(cv2.filter2D(levels, -1, _NOISE_MASK))
    return PictureStatistics(
        bright=_percentile(levels, 99.0),
        saturated=float((grey[::_STEP, ::_STEP] >= _SATURATED).mean()),
        sharpness=detail / (band + 0.5),  # half a level: a picture without edges has no sharpness
        texture=_percentile(texture, _EDGES, step=1),
        noise=_percentile(noise, 50.0) / _NOISE_GAIN,
        size=(grey.shape[0], grey.shape[1]),
    )


def judge_brightness(statistics: PictureStatistics, config: HealthConfig) -> CameraState:
    """Return BLACK, OVER_EXPOSED or OK."""
    if statistics.bright < config.black_level:
        return CameraState.BLACK
    if statistics.saturated > config.saturated_share:
        return CameraState.OVER_EXPOSED
    return CameraState.OK


def difference(
    grey: NDArray[np.uint8],  # (h, w)
    earlier: NDArray[np.uint8],  # (h, w)
) -> float:
    """Return the mean absolute difference of two pictures in levels; of two sizes, 255."""
    if grey.shape != earlier.shape:
        return 255.0
    return float(cv2.absdiff(grey, earlier).mean())


def _percentile(values: NDArray[np.float32], percent: float, step: int = _STEP) -> float:
    sampled = values[::step, ::step].ravel()
    index = min(len(sampled) - 1, int(len(sampled) * percent / 100))
    return float(np.partition(sampled, index)[index])
