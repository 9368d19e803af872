"""Plots of scores: precision over recall, histograms of errors, reliability of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.analysis.calibration import Reliability
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import MISSING_ERRORS, DetectionMetrics
from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES, ClassMatches
from bevstack.render.axes import Axes
from bevstack.render.canvas import Canvas, Rect, fit_text, text_size
from bevstack.render.colors import BLACK, CURVE_COLORS, RGB, WHITE

Floats = NDArray[np.float64]

PANEL = (300, 400)  # (H, W) pixels of one plot
COLUMNS = 5  # plots side by side
CAP_PX = 10.0
HISTOGRAM_BINS = 30
# Upper end of the error histograms; larger errors count in the last bar.
ERROR_REACH = {"scale_err": 1.0, "orient_err": float(np.pi), "vel_err": 5.0, "attr_err": 1.0}
ERROR_UNITS = {"trans_err": "m", "scale_err": "1 - IoU", "orient_err": "rad", "vel_err": "m/s"}

_GRID: RGB = (226, 229, 233)
_INK: RGB = (70, 76, 84)
_BAR: RGB = (86, 180, 233)


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
    x_max: float = 1.0
    y_max: float = 1.0


def precision_plots(metrics: DetectionMetrics, config: MetricConfig) -> Canvas:
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
        scale = Scale(f"{class_metrics.name}, AP {class_metrics.average_precision:.3f}", "recall")
        panels.append(_line_plot(scale, lines, legend_left=False))
    return _grid(panels)


def error_plots(matches: dict[str, ClassMatches | None], config: MetricConfig) -> Canvas:
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
        x_label = ERROR_UNITS.get(name, "")
        scale = Scale(f"{name}, mean {mean}", x_label, limit, max(float(share.max()) * 1.08, 1e-6))
        panels.append(_bar_plot(scale, share))
    return _grid(panels)


def reliability_plots(reliabilities: Sequence[Reliability]) -> Canvas:
    """Draw precision over score for all boxes and for each class.

    A calibrated detector lies on the diagonal. Classes without a predicted box are left out.
    """
    panels = []
    for bins in [reliabilities[0], *(r for r in reliabilities[1:] if r.count.any())]:
        ece = bins.expected_calibration_error
        error = "-" if ece != ece else f"{ece:.3f}"
        ends = np.array([0.0, 1.0])
        diagonal = Line("calibrated", ends, ends, _GRID)
        precision = Line("precision", bins.confidence, bins.precision, CURVE_COLORS[1])
        share = Line("share of boxes", bins.confidence, _share(bins.count), CURVE_COLORS[2])
        scale = Scale(f"{bins.name}, error {error}", "score")
        panels.append(_line_plot(scale, [precision, share, diagonal], legend_left=True))
    return _grid(panels)


def _share(count: NDArray[np.int64]) -> Floats:
    """Return the share of the boxes in each bin; NaN in an empty bin."""
    return np.where(count > 0, count / max(int(count.sum()), 1), np.nan)


def _line_plot(scale: Scale, lines: Sequence[Line], *, legend_left: bool) -> Canvas:
    """Draw one plot with a line for each curve and a legend."""
    canvas, axes = _axes(scale)
    for line in reversed(lines):  # the first line is drawn on top
        finite = np.isfinite(line.x) & np.isfinite(line.y)
        points = axes.to_pixels(line.x[finite], np.clip(line.y[finite], 0, scale.y_max))
        if len(points) == 1:
            points = np.repeat(points, 2, 0)  # a dot
        if len(points):
            canvas.line(points, line.color, 2)
    _draw_legend(canvas, axes.area, lines, left=legend_left)
    return canvas


def _bar_plot(scale: Scale, heights: Floats) -> Canvas:
    """Draw one histogram."""
    canvas, axes = _axes(scale)
    edges = np.linspace(0, scale.x_max, len(heights) + 1)
    for left, right, height in zip(edges, edges[1:], heights, strict=False):
        low, high = axes.to_pixels(np.array([left, right]), np.array([0.0, height]))
        corners = [[low[0], low[1]], [high[0] - 1, low[1]], [high[0] - 1, high[1]]]
        canvas.polygon(np.array([*corners, [low[0], high[1]]]), _BAR, 1.0)
    return canvas


def _axes(scale: Scale) -> tuple[Canvas, Axes]:
    """Draw an empty plot: title, grid, ticks, labels and the two axes."""
    height, width = PANEL
    canvas = Canvas.filled(height, width, WHITE)
    line, left = text_size("x", CAP_PX)[0], text_size("0.00", CAP_PX)[1] + 8
    area = Rect(left, 2 * line, width - 2 * line // 2, height - 2 * line - 8)
    axes = Axes(area=area, x_range=(0.0, scale.x_max), y_range=(0.0, scale.y_max))
    canvas.text(fit_text(scale.title, CAP_PX, width - 8), left - 4, 6, CAP_PX, BLACK)
    for tick in axes.y_ticks(5):
        row = axes.to_pixels(np.array([0.0]), np.array([tick]))[0, 1]
        canvas.line(np.array([[area.left, row], [area.right, row]]), _GRID, 1)
        size = text_size(f"{tick:g}", CAP_PX)
        canvas.text(f"{tick:g}", left - size[1] - 4, round(row - size[0] / 2), CAP_PX, _INK)
    for tick in axes.x_ticks(5):
        column = axes.to_pixels(np.array([tick]), np.array([0.0]))[0, 0]
        canvas.line(np.array([[column, area.top], [column, area.bottom]]), _GRID, 1)
        width_px = text_size(f"{tick:g}", CAP_PX)[1]
        canvas.text(f"{tick:g}", round(column - width_px / 2), area.bottom + 3, CAP_PX, _INK)
    if scale.x_label:
        width_px = text_size(scale.x_label, CAP_PX)[1]
        middle = (area.left + area.right - width_px) // 2
        canvas.text(scale.x_label, middle, area.bottom + 3 + line, CAP_PX, _INK)
    corner = [[area.left, area.top], [area.left, area.bottom], [area.right, area.bottom]]
    canvas.line(np.array(corner, np.float64), _INK, 1)
    return canvas, axes


def _draw_legend(canvas: Canvas, area: Rect, lines: Sequence[Line], *, left: bool) -> None:
    """Write the legend in an upper corner of the area."""
    line = text_size("x", CAP_PX)[0]
    width = max(text_size(curve.name, CAP_PX)[1] for curve in lines) + 26
    start, top = area.left + 6 if left else area.right - width - 4, area.top + 4
    canvas.fill(Rect(start, top, start + width, top + line * len(lines)), WHITE, 0.85)
    for number, curve in enumerate(lines):
        middle = top + line * (number + 0.5)
        canvas.line(np.array([[start + 3, middle], [start + 22, middle]]), curve.color, 3)
        canvas.text(curve.name, start + 25, top + line * number, CAP_PX, _INK)


def _grid(panels: Sequence[Canvas]) -> Canvas:
    """Arrange plots of equal size in rows of ``COLUMNS``."""
    height, width = PANEL
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    canvas = Canvas.filled(rows * height, columns * width, WHITE)
    for number, panel in enumerate(panels):
        canvas.paste(panel, number % columns * width, number // columns * height)
    return canvas
