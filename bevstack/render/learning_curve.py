"""Learning curves: loss terms or scores over training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Image
from bevstack.render.colors import CURVE_COLORS, RGB
from bevstack.render.plots import (
    DPI,
    CurveLabel,
    figure_image,
    label_curves,
    mark_stages,
    new_figure,
    plot_color,
    plot_style,
    use_whole_number_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_DOTTED_STEPS = 40  # at most this number of values without averaging: mark each with a dot


@dataclass(frozen=True, kw_only=True)
class CurveStyle:
    """Size, labels, scale and smoothing of a learning curve.

    Raises:
        ValueError: ``size`` is below 300 x 400 pixels, or ``smoothing`` is negative.
    """

    size: tuple[int, int] = (600, 1000)  # (H, W) pixels
    title: str = ""
    x_label: str = "step"
    y_label: str = "loss"
    log_y: bool = False
    smoothing: int = 0  # steps averaged for the bold line; 0: 1/40 of all steps, 1: no averaging
    joined: bool = False  # draw a curve across the first step of a stage, and average across it

    def __post_init__(self) -> None:
        height, width = self.size
        if height < 300 or width < 400:
            raise ValueError(f"size must be at least 300 x 400 pixels; got {self.size}")
        if self.smoothing < 0:
            raise ValueError(f"smoothing must be 0 or more steps; got {self.smoothing}")


def draw_learning_curve(
    steps: Sequence[float],  # S, ascending
    terms: Mapping[str, Sequence[float]],  # S values each; NaN for a missing value
    style: CurveStyle | None = None,
    stages: Sequence[tuple[float, str]] = (),  # first step and name of each
) -> Image:  # (H, W, 3) RGB
    """Draw loss terms over steps: values as a pale line, their running mean as a bold line.

    The first term is drawn in black above all other terms, so pass the total first. Beside each
    curve stand its name and its last running mean. A value that is not finite leaves a gap; on a
    logarithmic axis, so does a value that is not positive. A dotted line marks the first step of
    each stage; curves start again there, because a stage may add terms.

    Raises:
        ValueError: There is no step, no term, more terms than colours, or a term whose length is
            not the number of steps.
        ModuleNotFoundError: matplotlib is not installed.
    """
    with plot_style():
        return figure_image(make_figure(steps, terms, style or CurveStyle(), stages))


def make_figure(
    steps: Sequence[float],  # S, ascending
    terms: Mapping[str, Sequence[float]],  # S values each
    style: CurveStyle,
    stages: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Return the figure of ``draw_learning_curve``; call it in ``plot_style``.

    Raises:
        ValueError: as for ``draw_learning_curve``.
    """
    x = np.asarray(steps, np.float64)
    curves = {name: _checked(name, values, len(x), style) for name, values in terms.items()}
    if not len(x) or not curves or len(curves) > len(CURVE_COLORS):
        raise ValueError(
            f"terms must be 1 to {len(CURVE_COLORS)} with at least one step; "
            f"got {len(curves)} terms and {len(x)} steps"
        )
    figure = new_figure(style.size, dpi=DPI * max(style.size[1] / 1000, 0.7))
    axes = figure.add_subplot()
    window = style.smoothing or max(len(x) // 40, 1)
    starts = [] if style.joined else [np.searchsorted(x, start) for start, _ in stages]
    labels = []
    for number, (name, values) in enumerate(curves.items()):
        color = CURVE_COLORS[number]
        means = []
        for piece_x, piece in zip(np.split(x, starts), np.split(values, starts), strict=True):
            means.append(running_mean(piece, window))
            _draw_curve(axes, piece_x, piece, means[-1], color, order=10 - number)
        labels.append(_label(name, np.concatenate(means), color))
    _set_axes(axes, x, list(curves.values()), style)
    mark_stages(axes, stages)
    label_curves(figure, axes, labels)
    return figure


def _draw_curve(
    axes: Axes, x: Floats, values: Floats, mean: Floats, color: RGB, *, order: int
) -> None:
    shown = plot_color(color)
    if not np.array_equal(values, mean, equal_nan=True):
        axes.plot(x, values, color=shown, alpha=0.2, linewidth=0.8, zorder=order - 0.5)
    dots = "o" if len(x) <= _DOTTED_STEPS else ""
    axes.plot(x, mean, color=shown, marker=dots, markersize=4, zorder=order)


def _label(name: str, mean: Floats, color: RGB) -> CurveLabel:
    finite = mean[np.isfinite(mean)]
    if not len(finite):
        return CurveLabel(f"{name} (no value)", np.nan, color)
    return CurveLabel(f"{name} {finite[-1]:.3g}", float(finite[-1]), color)


def _set_axes(axes: Axes, x: Floats, curves: Sequence[Floats], style: CurveStyle) -> None:
    """Set limits, ticks and labels; ticks of steps are whole numbers."""
    if style.log_y:
        axes.set_yscale("log")
    axes.set_ylim(_y_range(curves, style.log_y))
    low, high = float(x.min()), float(x.max())
    margin = 0.01 * (high - low) if high > low else 0.5
    axes.set_xlim(low - margin, high + margin)
    if np.array_equal(x, np.round(x)):
        room = 0.7 * style.size[1] * DPI / axes.figure.dpi  # of the axes, at the usual text size
        use_whole_number_ticks(axes, int(min(room / (9 * len(f"{high:.0f}") + 18), 9)))
    axes.set_xlabel(style.x_label)
    axes.set_ylabel(style.y_label)
    # The names of stages stand between the title and the axes.
    axes.set_title(style.title, pad=24.0)


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


def _checked(name: str, values: Sequence[float], steps: int, style: CurveStyle) -> Floats:
    array = np.asarray(values, np.float64)
    if array.shape != (steps,):
        raise ValueError(
            f"term {name!r} must have one value per step, shape ({steps},); got {array.shape}"
        )
    drawable = np.isfinite(array) & ((array > 0) | (not style.log_y))
    return np.where(drawable, array, np.nan)


def _y_range(curves: Sequence[Floats], log_y: bool) -> tuple[float, float]:
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
