"""Plots of scores: precision over recall, histograms of errors, reliability of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.analysis.calibration import Reliability
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import MISSING_ERRORS, DetectionMetrics
from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES, ClassMatches
from bevstack.render.canvas import Image
from bevstack.render.colors import CURVE_COLORS, RGB
from bevstack.render.plots import (
    figure_image,
    list_curves,
    new_figure,
    plot_color,
    plot_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

HISTOGRAM_BINS = 30
# Upper end of the error histograms; larger errors count in the last bar.
ERROR_REACH = {"scale_err": 1.0, "orient_err": float(np.pi), "vel_err": 5.0, "attr_err": 1.0}
ERROR_UNITS = {"trans_err": "m", "scale_err": "1 - IoU", "orient_err": "rad", "vel_err": "m/s"}

_DIAGONAL: RGB = (170, 176, 184)
_BAR: RGB = (86, 180, 233)

Draw = Callable[["Axes"], None]


class Margins(NamedTuple):
    """Widths of the borders around the axes of a plot, in pixels."""

    left: int
    right: int
    top: int
    bottom: int


class Line(NamedTuple):
    """One curve of a plot."""

    name: str
    x: Floats
    y: Floats
    color: RGB


class Scale(NamedTuple):
    """Labels of a plot and upper ends of its axes, which start at 0."""

    title: str
    x_label: str
    y_label: str
    x_max: float = 1.0
    y_max: float = 1.0


class Panel(NamedTuple):
    """One plot: its scale and the function that draws its content."""

    scale: Scale
    draw: Draw


PANEL = (300, 400)  # (H, W) pixels of one plot
# Pixels left free around its axes for labels and, on the right, for the names of the curves.
MARGINS = Margins(left=58, right=104, top=32, bottom=46)
COLUMNS = 5  # plots side by side


def precision_plots(metrics: DetectionMetrics, config: MetricConfig) -> Image:
    """Draw precision over recall for every class, one line for each matching distance."""
    panels = []
    for class_metrics in metrics.classes:
        lines = [
            Line(f"{distance:g} m: {precision:.3f}", curve.recall, curve.precision, color)
            for distance, precision, curve, color in zip(
                config.distances_m,
                class_metrics.precisions,
                class_metrics.curves,
                CURVE_COLORS[1:],
                strict=False,
            )
        ]
        title = f"{_words(class_metrics.name)}, AP {class_metrics.average_precision:.3f}"
        panels.append(_line_plot(Scale(title, "recall", "precision"), lines))
    return _grid(panels)


def error_plots(matches: dict[str, ClassMatches | None], config: MetricConfig) -> Image:
    """Draw a histogram of each error over all matched boxes of the classes that have the error."""
    distance = config.distances_m.index(config.error_distance_m)
    panels = []
    for number, name in enumerate(ERROR_NAMES):
        values = [
            class_matches.errors[number, class_matches.matches.pair[distance]]
            for class_name, class_matches in matches.items()
            if class_matches is not None and name not in MISSING_ERRORS.get(class_name, ())
        ]
        known = np.concatenate([np.zeros(0), *values])
        known = known[np.isfinite(known)]
        limit = ERROR_REACH.get(name, config.error_distance_m)
        mean = f"{np.mean(known):.3f}" if len(known) else "-"
        count, _ = np.histogram(np.minimum(known, limit), HISTOGRAM_BINS, (0.0, limit))
        share = count / max(count.sum(), 1)
        height = max(float(share.max()) * 1.08, 1e-6)
        title = f"{_words(name)}, mean {mean}"
        scale = Scale(title, ERROR_UNITS.get(name, ""), "share of boxes", limit, height)
        panels.append(_bar_plot(scale, share))
    return _grid(panels)


def reliability_plots(reliabilities: Sequence[Reliability]) -> Image:
    """Draw precision over score for all boxes and for each class.

    A calibrated detector lies on the diagonal. Classes without a predicted box are left out.
    """
    panels = []
    for bins in [reliabilities[0], *(r for r in reliabilities[1:] if r.count.any())]:
        ece = bins.expected_calibration_error
        error = "-" if ece != ece else f"{ece:.3f}"
        ends = np.array([0.0, 1.0])
        diagonal = Line("calibrated", ends, ends, _DIAGONAL)
        precision = Line("precision", bins.confidence, bins.precision, CURVE_COLORS[1])
        share = Line("share", bins.confidence, _share(bins.count), CURVE_COLORS[2])
        scale = Scale(f"{_words(bins.name)}, error {error}", "score", "precision, share of boxes")
        panels.append(_line_plot(scale, [precision, share, diagonal]))
    return _grid(panels)


def _words(name: str) -> str:
    return name.replace("_err", " error").replace("_", " ")


def _share(count: NDArray[np.int64]) -> Floats:
    """Return the share of the boxes in each bin; NaN in an empty bin."""
    return np.where(count > 0, count / max(int(count.sum()), 1), np.nan)


def _line_plot(scale: Scale, lines: Sequence[Line]) -> Panel:
    """Return a plot with a line for each curve, and their names beside it."""

    def draw(axes: Axes) -> None:
        for number, line in enumerate(lines):
            finite = np.isfinite(line.x) & np.isfinite(line.y)
            dot = "o" if finite.sum() == 1 else ""
            axes.plot(
                line.x[finite],
                np.clip(line.y[finite], 0, scale.y_max),
                label=line.name,
                color=plot_color(line.color),
                marker=dot,
                clip_on=False,  # a curve at 0 or 1 is as thick as elsewhere
                zorder=10 - number,  # the first line is drawn on top
            )

        list_curves(axes)

    return Panel(scale, draw)


def _bar_plot(scale: Scale, heights: Floats) -> Panel:
    """Return one histogram."""
    edges = np.linspace(0, scale.x_max, len(heights) + 1)

    def draw(axes: Axes) -> None:
        width = 0.9 * scale.x_max / len(heights)
        axes.bar(edges[:-1], heights, width, align="edge", color=plot_color(_BAR))

    return Panel(scale, draw)


def _grid(panels: Sequence[Panel]) -> Image:
    """Draw plots of equal size in rows of ``COLUMNS``."""
    height, width = PANEL
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    whole = (rows * height, columns * width)
    with plot_style():
        figure = new_figure(whole, dpi=90, arranged=False)
        for number, panel in enumerate(panels):
            low = (rows - 1 - number // columns) * height + MARGINS.bottom
            left = number % columns * width + MARGINS.left
            area = (width - MARGINS.left - MARGINS.right, height - MARGINS.top - MARGINS.bottom)
            axes = figure.add_axes(
                (left / whole[1], low / whole[0], area[0] / whole[1], area[1] / whole[0])
            )
            scale = panel.scale
            axes.set(xlim=(0.0, scale.x_max), ylim=(0.0, scale.y_max), xlabel=scale.x_label)
            axes.set_ylabel(scale.y_label)
            axes.set_title(scale.title)
            panel.draw(axes)
        return figure_image(figure)
