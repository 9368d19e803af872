"""The learning curve: values on their pixels, gaps, ticks and readable text."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.render import CurveStyle, draw_learning_curve
from bevstack.render.axes import Axes, log_ticks, nice_ticks
from bevstack.render.canvas import Rect
from bevstack.render.learning_curve import running_mean
from tests.render.scenes import assert_texts_are_whole

STEPS = np.arange(1, 301)
LOSS = 5 * np.exp(-STEPS / 80) + 1


def test_values_are_mapped_to_pixels_by_linear_and_logarithmic_axes() -> None:
    axes = Axes(area=Rect(100, 20, 500, 220), x_range=(0.0, 8.0), y_range=(1.0, 100.0))
    points = axes.to_pixels(np.array([0.0, 2.0, 8.0]), np.array([1.0, 50.5, 100.0]))
    np.testing.assert_allclose(points, [(100, 220), (200, 120), (500, 20)])
    logarithmic = Axes(
        area=Rect(100, 20, 500, 220), x_range=(0.0, 8.0), y_range=(1.0, 100.0), log_y=True
    )
    middle = logarithmic.to_pixels(np.array([2.0]), np.array([10.0]))
    np.testing.assert_allclose(middle, [(200, 120)])


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 10, 5, [0, 2, 4, 6, 8, 10]),
        (1, 300, 4, [100, 200, 300]),
        (-0.3, 0.4, 7, [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3, 0.4]),
        (0, 1, 1, [0, 1]),
        (0, 7e-5, 2, [0, 5e-5]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(
    low: float, high: float, count: int, expected: list[float]
) -> None:
    np.testing.assert_allclose(nice_ticks(low, high, count), expected, atol=1e-12)


def test_logarithmic_ticks_are_powers_of_ten_if_those_suffice() -> None:
    np.testing.assert_allclose(log_ticks(0.02, 300), [0.1, 1, 10, 100])
    np.testing.assert_allclose(log_ticks(0.9, 12), [1, 2, 5, 10])


def test_running_mean_averages_the_finite_values_of_its_window() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan, np.nan, 9.0])
    expected = [
        np.mean([v for v in values[max(i - 1, 0) : i + 1] if np.isfinite(v)] or [np.nan])
        for i in range(7)
    ]
    np.testing.assert_allclose(running_mean(values, 2), expected)


def test_curve_falls_when_the_loss_falls() -> None:
    picture = draw_learning_curve(STEPS, {"total": LOSS}, CurveStyle(smoothing=1)).pixels
    black = picture.max(-1) < 60
    width = black.shape[1]
    columns = [width // 3, width // 2, width - width // 6]
    heights = [np.nonzero(black[80:-60, column])[0].mean() for column in columns]
    assert heights == sorted(heights) and heights[2] - heights[0] > 50


def test_each_term_has_a_different_colour() -> None:
    one = draw_learning_curve(STEPS, {"total": LOSS}).pixels.reshape(-1, 3)
    two = draw_learning_curve(STEPS, {"total": LOSS, "boxes": LOSS / 2}).pixels.reshape(-1, 3)
    blue = (0, 114, 178)
    assert not (one == blue).all(-1).any() and (two == blue).all(-1).sum() > 500


@pytest.mark.parametrize("size", [(200, 200), (300, 420), (600, 1000), (1080, 1920)])
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e6])
def test_no_text_is_cut_or_overlapped(size: tuple[int, int], log_y: bool, scale: float) -> None:
    terms = {
        name: scale * LOSS * factor
        for name, factor in (("total", 1), ("classification", 0.5), ("boxes, a long name", 0.3))
    }
    style = CurveStyle(size=size, title="tiny_cpu, trained on a synthetic world", log_y=log_y)
    canvas = draw_learning_curve(STEPS * 1000, terms, style)
    # At least the title, three terms, the y axis's label, and a number.
    assert len(canvas.texts) >= 6
    assert_texts_are_whole(canvas)


def test_values_that_are_not_finite_leave_a_gap() -> None:
    gap = LOSS.copy()
    gap[100:200] = np.nan
    gap[250] = np.inf
    style = CurveStyle(smoothing=1)
    whole, broken = (
        (draw_learning_curve(STEPS, {"total": loss}, style).pixels.max(-1) < 60)
        for loss in (LOSS, gap)
    )
    middle = whole.shape[1] // 2
    assert whole[80:-60, middle].any() and not broken[80:-60, middle].any()


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("values", [[2.0], [np.nan], [0.0], [-1.0]])
def test_single_step_of_any_value_is_drawn(values: list[float], log_y: bool) -> None:
    canvas = draw_learning_curve([7], {"total": values}, CurveStyle(log_y=log_y))
    assert_texts_are_whole(canvas)


def test_same_input_gives_the_same_pixels() -> None:
    first, second = (draw_learning_curve(STEPS, {"a": LOSS}).pixels.tobytes() for _ in range(2))
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
