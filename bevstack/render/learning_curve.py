"""Learning curves: loss terms over training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.render.axes import Axes
from bevstack.render.camera_view import text_height
from bevstack.render.canvas import Canvas, Rect, fit_text, text_size
from bevstack.render.colors import BLACK, CURVE_COLORS, RGB, WHITE

_GRID: RGB = (226, 229, 233)
_INK: RGB = (70, 76, 84)


@dataclass(frozen=True, kw_only=True)
class CurveStyle:
    """Size, labels, scale and smoothing of a learning curve.

    Raises:
        ValueError: A side of ``size`` is below 200 pixels, or ``smoothing`` is negative.
    """

    size: tuple[int, int] = (600, 1000)  # (H, W) pixels
    title: str = ""
    x_label: str = "step"
    y_label: str = "loss"
    log_y: bool = False
    smoothing: int = 0  # steps averaged for the bold line; 0: 1/40 of all steps, 1: no averaging

    def __post_init__(self) -> None:
        if min(self.size) < 200:
            raise ValueError(f"size must be at least 200 x 200 pixels; got {self.size}")
        if self.smoothing < 0:
            raise ValueError(f"smoothing must be 0 or more steps; got {self.smoothing}")


def draw_learning_curve(
    steps: Sequence[float],  # S, ascending
    terms: Mapping[str, Sequence[float]],  # S values each; NaN for a missing value
    style: CurveStyle | None = None,
) -> Canvas:
    """Draw loss terms over steps: values as a pale line, their running mean as a bold line.

    The first term is drawn in black above all other terms, so pass the total first. The legend
    gives the last running mean of each term. A value that is not finite leaves a gap; on a
    logarithmic axis, so does a value that is not positive.

    Raises:
        ValueError: There is no step, no term, more terms than colours, or a term whose length is
            not the number of steps.
    """
    style = style or CurveStyle()
    x = np.asarray(steps, np.float64)
    curves = {name: _checked(name, values, len(x), style) for name, values in terms.items()}
    if not len(x) or not curves or len(curves) > len(CURVE_COLORS):
        raise ValueError(
            f"terms must be 1 to {len(CURVE_COLORS)} with at least one step; "
            f"got {len(curves)} terms and {len(x)} steps"
        )
    height, width = style.size
    canvas = Canvas.filled(height, width, WHITE)
    cap_px = max(text_height(width), 9.0)
    window = style.smoothing or max(len(x) // 40, 1)
    means = {name: running_mean(values, window) for name, values in curves.items()}
    top = _write_heading(canvas, means, style, cap_px)
    axes = _draw_axes(canvas, top, x, list(curves.values()), style, cap_px)
    for (name, values), color in reversed(list(zip(curves.items(), CURVE_COLORS, strict=False))):
        if window > 1:
            pale = _paler(color)
            _draw_curve(canvas, axes, x, values, pale, 1)
        _draw_curve(canvas, axes, x, means[name], color, 2)
    return canvas


def _paler(color: RGB) -> RGB:
    red, green, blue = (round(255 - 0.3 * (255 - channel)) for channel in color)
    return (red, green, blue)


def running_mean(
    values: NDArray[np.float64],  # (S,)
    window: int,
) -> NDArray[np.float64]:  # (S,)
    """Return the mean of the finite values among the last ``window``; NaN if there are none."""
    finite = np.isfinite(values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(finite, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(finite)))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    count = counts[end] - counts[start]
    return np.where(count > 0, (sums[end] - sums[start]) / np.maximum(count, 1), np.nan)


def _checked(
    name: str, values: Sequence[float], steps: int, style: CurveStyle
) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.shape != (steps,):
        raise ValueError(
            f"term {name!r} must have one value per step, shape ({steps},); got {array.shape}"
        )
    drawable = np.isfinite(array) & ((array > 0) | (not style.log_y))
    return np.where(drawable, array, np.nan)


def _write_heading(
    canvas: Canvas, means: Mapping[str, NDArray[np.float64]], style: CurveStyle, cap_px: float
) -> int:
    """Write title and legend in as many rows as they need, and return the row below them."""
    margin = round(cap_px)
    top = margin // 2
    room = canvas.bounds.width - 2 * margin
    if style.title:
        title = fit_text(style.title, 1.2 * cap_px, room)
        if title:
            top = canvas.text(title, margin, top, 1.2 * cap_px, BLACK).bottom
    left, swatch = margin, round(2.5 * cap_px)
    line = text_size("x", cap_px)[0]
    for (name, values), color in zip(means.items(), CURVE_COLORS, strict=False):
        finite = values[np.isfinite(values)]
        text = f"{name} {finite[-1]:.3g}" if len(finite) else f"{name} (no value)"
        text = fit_text(text, cap_px, room - swatch)
        width = swatch + text_size(text, cap_px)[1]
        if left > margin and left + width > margin + room:
            left, top = margin, top + line
        middle = top + line / 2
        canvas.line(np.array([[left, middle], [left + swatch - 3.0, middle]]), color, 3)
        if text:
            canvas.text(text, left + swatch, top, cap_px, _INK)
        left += width + margin
    return top + line + margin // 2


def _draw_axes(
    canvas: Canvas,
    top: int,
    x: NDArray[np.float64],
    curves: Sequence[NDArray[np.float64]],
    style: CurveStyle,
    cap_px: float,
) -> Axes:
    line = text_size("x", cap_px)[0]
    x_range, y_range = _x_range(x), _y_range(curves, style.log_y)
    trial = Axes(area=Rect(0, 0, 1, 1), x_range=x_range, y_range=y_range, log_y=style.log_y)
    bottom = canvas.bounds.bottom - 2 * line - 6
    ticks = trial.y_ticks(max((bottom - top - line) // (3 * line), 1))
    left = max((text_size(f"{tick:g}", cap_px)[1] for tick in ticks), default=0) + 8
    # Leave room on the right: the last number below the axis extends half its width beyond it.
    last = text_size(f"{x_range[1]:g}", cap_px)[1]
    area = Rect(left, top + line, canvas.bounds.right - last // 2 - 8, bottom)
    axes = Axes(area=area, x_range=x_range, y_range=y_range, log_y=style.log_y)
    canvas.text(fit_text(style.y_label, cap_px, area.width), left, top, cap_px, _INK)
    for tick in ticks:
        row = axes.to_pixels(np.array([x_range[0]]), np.array([tick]))[0, 1]
        canvas.line(np.array([[area.left, row], [area.right, row]]), _GRID, 1)
        height, width = text_size(f"{tick:g}", cap_px)
        _write_free(canvas, f"{tick:g}", left - width - 4, round(row - height / 2), cap_px)
    for tick in axes.x_ticks(max(area.width // (3 * last // 2 + 16), 1)):
        column = axes.to_pixels(np.array([tick]), np.array([y_range[1]]))[0, 0]
        canvas.line(np.array([[column, area.top], [column, area.bottom]]), _GRID, 1)
        width = text_size(f"{tick:g}", cap_px)[1]
        _write_free(canvas, f"{tick:g}", round(column - width / 2), area.bottom + 2, cap_px)
    label = fit_text(style.x_label, cap_px, area.width)
    width = text_size(label, cap_px)[1]
    _write_free(
        canvas, label, (area.left + area.right - width) // 2, area.bottom + 2 + line, cap_px
    )
    corner = [[area.left, area.top], [area.left, area.bottom], [area.right, area.bottom]]
    canvas.line(np.array(corner, np.float64), _INK, 1)
    return axes


def _write_free(canvas: Canvas, text: str, left: int, top: int, cap_px: float) -> None:
    height, width = text_size(text, cap_px)
    if text and canvas.is_free(Rect(left, top, left + width, top + height)):
        canvas.text(text, left, top, cap_px, _INK)


def _x_range(x: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _y_range(curves: Sequence[NDArray[np.float64]], log_y: bool) -> tuple[float, float]:
    """Return the range of all values with a margin; a linear axis includes zero."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if not len(values):
        return (0.1, 1.0) if log_y else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log_y:
        return (low / 1.1, high * 1.1)
    low = min(low, 0.0)
    return (low, high + 0.04 * (high - low)) if high > low else (low, low + 1.0)


def _draw_curve(
    canvas: Canvas,
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    color: RGB,
    thickness: int,
) -> None:
    points = axes.to_pixels(x, y)
    gaps = np.flatnonzero(~np.isfinite(y))
    for piece in np.split(points, gaps):
        piece = piece[np.isfinite(piece).all(1)]
        if len(piece) == 1:
            piece = np.repeat(piece, 2, 0)  # a dot
        if len(piece):
            canvas.line(piece, color, thickness)
