"""Directions, fields and noise that stand for random ones in the reference pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ANGLE_DEG = 33.0  # of motion blur; falling flakes have it minus 90
SIZE = (64, 96)  # (H, W) of the pictures
DRAWS = 40  # pictures of each statistic
SPECTRUM_SIDE = 128
LAGS = (1, 2, 4, 8, 16, 32)
DECAYS = (2.0, 1.7, 1.4)


def given_field() -> NDArray[np.float64]:  # (128, 128) 0 to 1
    """Return a smooth field without symmetry."""
    rows, columns = np.mgrid[:128, :128] / 128.0
    return np.asarray((1 + np.sin(7 * rows + 11 * columns**2)) / 2)


def given_noise() -> NDArray[np.float64]:  # (64, 96)
    """Return noise of the size of the picture, as smooth as flakes."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    waves = np.sin(0.9 * rows + 0.3 * columns) + np.sin(0.4 * rows - 0.8 * columns + 1)
    return np.asarray(0.15 * waves**3)  # mostly below the thresholds of 0.5 and 0.9


def figures(
    changed: NDArray[np.uint8],  # (H, W, 3)
    picture: NDArray[np.uint8],  # (H, W, 3)
) -> tuple[float, float, float]:
    """Return mean level, contrast (standard deviation) and PSNR in dB to the original picture."""
    error = np.mean((changed.astype(float) - picture) ** 2)
    psnr_db = 10 * np.log10(255**2 / max(error, 1e-9))
    return float(changed.mean()), float(changed.std()), float(psnr_db)


def differences(field: NDArray[np.floating]) -> list[float]:  # one a lag
    """Return the mean absolute difference of a field to itself, shifted by each of the lags."""
    return [float(np.abs(field - np.roll(field, lag, axis=1)).mean()) for lag in LAGS]
