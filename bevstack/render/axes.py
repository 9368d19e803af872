"""Axes of a plot: tick values, and the mapping from values to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Rect


def nice_ticks(low: float, high: float, count: int) -> NDArray[np.float64]:
    """Return at most ``count`` + 1 round numbers in a range, with a step of (1, 2, 5) x 10^n."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(f * power for f in (1, 2, 5, 10) if f * power * (1 + 1e-9) >= (high - low) / count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return np.arange(first, last + 1) * step


def log_ticks(low: float, high: float) -> NDArray[np.float64]:
    """Return the powers of ten in a range; add 2 and 5 times them if there are fewer than 3."""
    exponents = np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1.0,), (1.0, 2.0, 5.0)):
        ticks = np.sort((10.0 ** exponents[:, None] * np.array(factors)).ravel())
        ticks = ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]
        if len(ticks) >= 3:
            break
    return ticks


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Plotting area of a picture and the range of values it shows."""

    area: Rect
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_y: bool = False

    def to_pixels(
        self,
        x: NDArray[np.float64],  # (P,)
        y: NDArray[np.float64],  # (P,) positive on a logarithmic axis
    ) -> NDArray[np.float64]:  # (P, 2) continuous (column, row)
        """Return the pixel coordinates of values."""
        low, high = self.y_range
        if self.log_y:
            low, high, y = math.log10(low), math.log10(high), np.log10(y)
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (y - low) / (high - low)
        column = self.area.left + across * self.area.width
        return np.stack((column, self.area.bottom - up * self.area.height), -1)

    def x_ticks(self, count: int) -> NDArray[np.float64]:
        """Return round numbers along x."""
        return nice_ticks(*self.x_range, count)

    def y_ticks(self, count: int) -> NDArray[np.float64]:
        """Return round numbers along y."""
        return log_ticks(*self.y_range) if self.log_y else nice_ticks(*self.y_range, count)
