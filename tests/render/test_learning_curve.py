"""The learning curve: values on their pixels, gaps, stages, and labels beside the curves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from bevstack.render import CurveStyle, draw_learning_curve
from bevstack.render.learning_curve import make_figure, running_mean
from bevstack.render.plots import plot_style

STEPS = np.arange(1, 301)
LOSS = 5 * np.exp(-STEPS / 80) + 1
SMALL = CurveStyle(size=(300, 400))
STAGE = (101.0, "from step 101: whole model")


def is_black(picture: np.ndarray) -> np.ndarray:
    return picture.max(-1) < 40


def test_running_mean_averages_the_finite_values_of_its_window() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan, np.nan, 9.0])
    expected = [
        np.mean([v for v in values[max(i - 1, 0) : i + 1] if np.isfinite(v)] or [np.nan])
        for i in range(7)
    ]
    np.testing.assert_allclose(running_mean(values, 2), expected)


def test_curve_falls_when_the_loss_falls() -> None:
    black = is_black(draw_learning_curve(STEPS, {"total": LOSS}, CurveStyle(smoothing=1)))
    heights = [np.nonzero(black[60:-60, column])[0].mean() for column in (200, 400, 700)]
    assert heights == sorted(heights) and heights[2] - heights[0] > 50


def test_each_term_has_a_different_colour() -> None:
    one = draw_learning_curve(STEPS, {"total": LOSS}, SMALL)
    two = draw_learning_curve(STEPS, {"total": LOSS, "boxes": LOSS / 2}, SMALL)
    blue = [
        (np.abs(picture.astype(int) - (0, 114, 178)).sum(-1) < 20).sum() for picture in (one, two)
    ]
    assert blue[0] == 0 and blue[1] > 200


@pytest.mark.parametrize("size", [(300, 400), (600, 1000)])
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e6])
def test_no_text_is_cut_or_overlapped(size: tuple[int, int], log_y: bool, scale: float) -> None:
    terms = {
        name: scale * LOSS * factor
        for name, factor in (("total", 1), ("class", 0.5), ("boxes, a long name", 0.49))
    }
    style = CurveStyle(size=size, title="trained on a synthetic world", log_y=log_y)
    with plot_style():
        figure = make_figure(
            STEPS * 1000, terms, style, [(200_000, "from step 200000: whole model")]
        )
        figure.draw_without_rendering()
    (axes,) = figure.axes
    ticks = [
        tick.label1
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if axis.get_view_interval()[0] <= tick.get_loc() <= axis.get_view_interval()[1]
    ]
    shown = [*axes.texts, *ticks, axes.xaxis.label, axes.yaxis.label, axes._left_title]
    extents = {text.get_text(): text.get_window_extent() for text in shown if text.get_text()}
    assert len(extents) >= 8
    for text, box in extents.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= size[1] and box.y1 <= size[0], text
    for (first, one), (second, other) in combinations(extents.items(), 2):
        assert not one.padded(-1.5).overlaps(other.padded(-1.5)), (first, second)


def test_names_and_last_values_stand_beside_the_curves() -> None:
    with plot_style():
        figure = make_figure(STEPS, {"total": LOSS, "box": LOSS / 3}, CurveStyle(smoothing=1))
        figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_legend() is None
    assert [text.get_text() for text in axes.texts] == ["total 1.12", "box 0.373"]
    for text, value in zip(axes.texts, (LOSS[-1], LOSS[-1] / 3), strict=True):
        box = text.get_window_extent()
        assert box.x0 > axes.bbox.x1
        end = axes.transData.transform((300, value))[1]
        assert abs((box.y0 + box.y1) / 2 - end) < 12


def test_a_stage_is_marked_where_it_begins_and_curves_start_again_there() -> None:
    jump = np.where(STEPS < 101, 1.0, 9.0)
    with plot_style():
        figure = make_figure(STEPS, {"total": jump}, CurveStyle(smoothing=20), [STAGE])
    (axes,) = figure.axes
    (marker,) = [line for line in axes.lines if line.get_gid() == "stage"]
    assert set(marker.get_xdata()) == {101.0}
    assert STAGE[1] in [text.get_text() for text in axes.texts]
    values = {
        float(value)
        for line in axes.lines
        if len(line.get_xdata()) > 3
        for value in np.asarray(line.get_ydata())
    }
    assert values == {1.0, 9.0}  # no mean of both stages, no line from one to the other


def test_a_stage_after_the_last_step_leaves_the_last_value_at_the_curve() -> None:
    with plot_style():
        figure = make_figure(
            np.arange(1, 4),
            {"total": np.array([3.0, 2.0, 1.0])},
            CurveStyle(smoothing=1),
            [(9, "x")],
        )
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "total 1" in texts


def test_scores_may_be_joined_across_a_stage() -> None:
    style = CurveStyle(smoothing=1, joined=True)
    with plot_style():
        figure = make_figure([50, 100, 150], {"NDS": [0.1, 0.2, 0.3]}, style, [STAGE])
    (axes,) = figure.axes
    assert [0.1, 0.2, 0.3] in [list(line.get_ydata()) for line in axes.lines]


def test_values_that_are_not_finite_leave_a_gap() -> None:
    gap = LOSS.copy()
    gap[100:200] = np.nan
    gap[250] = np.inf
    style = CurveStyle(smoothing=1)
    whole, broken = (
        is_black(draw_learning_curve(STEPS, {"total": loss}, style)) for loss in (LOSS, gap)
    )
    assert whole[60:-60, 450].any() and not broken[60:-60, 450].any()


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("values", [[2.0], [np.nan], [0.0], [-1.0]])
def test_single_step_of_any_value_is_drawn(values: list[float], log_y: bool) -> None:
    style = CurveStyle(log_y=log_y, size=(300, 400))
    assert draw_learning_curve([7], {"total": values}, style).shape == (300, 400, 3)


def test_same_input_gives_the_same_pixels() -> None:
    first, second = (draw_learning_curve(STEPS, {"a": LOSS}, SMALL).tobytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("steps", "terms", "message"),
    [
        ([], {"total": []}, "got 1 terms and 0 steps"),
        ([1], {}, "terms must be 1 to 7"),
        ([1], {str(i): [1.0] for i in range(8)}, "got 8 terms and 1 steps"),
        ([1, 2], {"total": [1.0]}, r"term 'total' must have one value per step, shape \(2,\)"),
    ],
)
def test_invalid_input_is_refused(
    steps: list[int], terms: dict[str, list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_learning_curve(steps, terms)
    with pytest.raises(ValueError, match="size must be at least 300 x 400 pixels"):
        CurveStyle(size=(299, 400))
