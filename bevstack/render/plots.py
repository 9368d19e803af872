"""Style of all plots, and the parts that they share, drawn with matplotlib.

matplotlib is imported when a plot is drawn: training and prediction work without it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.render.canvas import Image
from bevstack.render.colors import RGB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#3c434b"  # axes and text
GRID = "#e2e5e9"
DPI = 100.0  # of a plot 1000 pixels wide: text of 10 points is 14 pixels high

STYLE: Mapping[str, object] = MappingProxyType(
    {
        "font.family": "DejaVu Sans",  # part of matplotlib: the same on every machine
        "font.size": 10.0,
        "text.color": INK,
        "figure.facecolor": "white",
        "axes.axisbelow": True,
        "axes.edgecolor": INK,
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11.0,
        "axes.titleweight": "bold",
        "axes.titlepad": 10.0,
        "axes.xmargin": 0.0,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "xtick.color": INK,
        "ytick.color": INK,
    }
)


class CurveLabel(NamedTuple):
    """Label of a curve, to be written right of the axes."""

    text: str
    y: float  # height of the curve's end, in units of the y axis; NaN: at the top
    color: RGB


def missing_matplotlib() -> str | None:
    """Return a sentence with the remedy if matplotlib does not import; else return None."""
    try:
        import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        return f"plots must have matplotlib; got {error}: pip install matplotlib"
    return None


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw in the project's style, whatever the user's own matplotlib settings are.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message holds the remedy.
    """
    problem = missing_matplotlib()
    if problem is not None:
        raise ModuleNotFoundError(problem)
    from matplotlib import style

    with style.context(["default", dict(STYLE)]):
        yield


def new_figure(
    size: tuple[int, int],  # (H, W) pixels
    *,
    dpi: float = DPI,  # scales text and lines
    arranged: bool = True,  # give each part the room that it needs, which takes time
) -> Figure:
    """Return an empty figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = size
    # A thousandth more: the renderer rounds a size in pixels down.
    inches = ((width + 1e-3) / dpi, (height + 1e-3) / dpi)
    figure = Figure(inches, dpi=dpi, layout="constrained" if arranged else None)
    FigureCanvasAgg(figure)
    return figure


def figure_image(figure: Figure) -> Image:  # (H, W, 3) RGB
    """Return a drawn figure as a picture; the same figure gives the same pixels."""
    content = io.BytesIO()
    figure.savefig(content, format="raw")
    width, height = figure.canvas.get_width_height()
    pixels = np.frombuffer(content.getvalue(), np.uint8).reshape(height, width, 4)
    return pixels[..., :3].copy()


def plot_color(color: RGB) -> tuple[float, float, float]:
    """Return a colour as matplotlib expects it, with channels from 0 to 1."""
    red, green, blue = (channel / 255 for channel in color)
    return (red, green, blue)


def use_whole_number_ticks(axes: Axes, count: int) -> None:
    """Label the x axis at no more than ``count`` + 1 whole numbers, without an exponent."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=count, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def label_curves(figure: Figure, axes: Axes, labels: Sequence[CurveLabel]) -> None:
    """Write each curve's label right of the axes, at the height of the curve's end.

    Labels that would overlap are moved apart. A short line in the curve's colour joins the end
    and the label. Call it when the limits of the axes are final.
    """
    texts = [
        axes.text(1.05, 0.5, label.text, transform=axes.transAxes, va="center", clip_on=False)
        for label in labels
    ]
    if not texts:
        return
    figure.draw_without_rendering()  # lays out the axes, and so gives heights
    height = axes.bbox.height
    step = 1.08 * max(text.get_window_extent().height for text in texts) / height
    ends = np.array([label.y for label in labels], np.float64)
    pixels = axes.transData.transform(np.stack((np.zeros_like(ends), ends), -1))[:, 1]
    ends = np.clip((pixels - axes.bbox.y0) / height, 0.0, 1.0)  # NaN stays NaN
    ends = np.where(np.isfinite(ends), ends, 1.0)
    places = spread(ends, step)
    for label, text, end, place in zip(labels, texts, ends, places, strict=True):
        text.set_y(float(place))
        axes.plot(
            [1.005, 1.02, 1.045],
            [end, place, place],
            transform=axes.transAxes,
            color=plot_color(label.color),
            clip_on=False,
            scalex=False,
            scaley=False,
        )


def list_curves(axes: Axes) -> None:
    """List the labelled curves in a legend right of the axes, from the top."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.04),
        frameon=False,
        fontsize="small",
        handlelength=1.2,
        handletextpad=0.5,
        borderaxespad=0.2,
    )


def spread(
    wanted: NDArray[np.float64],  # (P,) in the range 0 to 1
    step: float,
) -> NDArray[np.float64]:  # (P,)
    """Return positions at least ``step`` apart, in the same order, near the wanted ones.

    The sum of squared shifts is least (isotonic regression by pooling adjacent violators). The
    positions stay within 0 and 1 if there is room.
    """
    order = np.argsort(wanted, kind="stable")
    offsets = step * np.arange(len(wanted))
    pools: list[tuple[float, int]] = []  # mean and number of the values in a pool
    for value in wanted[order] - offsets:
        mean, count = float(value), 1
        while pools and pools[-1][0] > mean:
            above, more = pools.pop()
            mean, count = (above * more + mean * count) / (more + count), more + count
        pools.append((mean, count))
    means = np.repeat([mean for mean, _ in pools], [count for _, count in pools])
    highest = max(1.0 - float(offsets[-1]), 0.0) if len(wanted) else 0.0
    placed = np.empty(len(wanted))
    placed[order] = np.clip(means, 0.0, highest) + offsets
    return placed


def mark_stages(
    axes: Axes,
    stages: Sequence[tuple[float, str]],  # first x value and name of each
) -> None:
    """Draw a dotted line at the beginning of each stage, with its name above the axes."""
    from matplotlib.transforms import blended_transform_factory

    low, high = axes.get_xlim()
    place = blended_transform_factory(axes.transData, axes.transAxes)
    for start, name in stages:
        if not low <= start <= high:
            continue
        axes.axvline(start, color=INK, linestyle=(0, (1, 2)), linewidth=1.4, gid="stage")
        side = "left" if start <= (low + high) / 2 else "right"
        axes.text(start, 1.01, name, transform=place, ha=side, va="bottom", fontsize="small")
