"""What all plots share: the style, labels beside curves, markers of stages, whole-number ticks."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest

from bevstack.render.plots import (
    CurveLabel,
    figure_image,
    label_curves,
    mark_stages,
    missing_matplotlib,
    new_figure,
    plot_style,
    spread,
    use_whole_number_ticks,
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([0.2, 0.8], [0.2, 0.8]),  # far apart: unchanged
        ([0.5, 0.5], [0.45, 0.55]),  # moved apart by the same shift
        ([0.52, 0.5], [0.56, 0.46]),  # the order is kept
        ([0.99, 1.0], [0.9, 1.0]),  # pushed back into the range
        ([0.0, 0.0, 0.01], [0.0, 0.1, 0.2]),
        ([], []),
    ],
)
def test_positions_are_moved_apart_as_little_as_possible(
    wanted: list[float], expected: list[float]
) -> None:
    np.testing.assert_allclose(spread(np.array(wanted), 0.1), expected, atol=1e-12)


def test_picture_has_the_requested_size_at_any_scale() -> None:
    with plot_style():
        for size, dpi in (((300, 400), 70.0), ((333, 777), 90.0), ((60, 101), 137.3)):
            assert figure_image(new_figure(size, dpi=dpi)).shape == (*size, 3)


def test_labels_stand_right_of_the_axes_and_do_not_overlap() -> None:
    ends = [1.0, 1.01, 1.02, 5.0, np.nan]
    with plot_style():
        figure = new_figure((400, 700))
        axes = figure.add_subplot()
        axes.set(xlim=(0, 1), ylim=(0, 10))
        color = (10, 20, 30)
        label_curves(figure, axes, [CurveLabel(f"curve {e}", e, color) for e in ends])
        figure_image(figure)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert all(box.x0 > axes.bbox.x1 and box.x1 <= 700 for box in boxes)
    for low, high in pairwise(sorted(boxes, key=lambda box: box.y0)):
        assert low.y1 <= high.y0 + 1.0
    middle = {t.get_text(): t.get_window_extent().y0 + 6 for t in axes.texts}["curve 5.0"]
    assert middle == pytest.approx(axes.bbox.y0 + axes.bbox.height / 2, abs=5)


@pytest.mark.parametrize("high", [2, 6, 13, 100, 24000])
def test_ticks_of_steps_are_whole_numbers(high: int) -> None:
    with plot_style():
        figure = new_figure((300, 400))
        axes = figure.add_subplot()
        axes.set(xlim=(1, high))
        use_whole_number_ticks(axes, 5)
        figure_image(figure)
        texts = [text.get_text() for text in axes.get_xticklabels()]
    assert 1 < len(texts) <= 6 + 2  # matplotlib keeps one beyond each end, which is not drawn
    assert all(text.lstrip("-").isdigit() for text in texts)


def test_a_stage_outside_the_axes_is_not_marked() -> None:
    with plot_style():
        axes = new_figure((300, 400)).add_subplot()
        axes.set(xlim=(1, 10))
        mark_stages(axes, [(0.5, "before"), (5, "inside"), (11, "after")])
    assert [text.get_text() for text in axes.texts] == ["inside"]


def test_a_user_s_own_settings_do_not_change_a_plot() -> None:
    import matplotlib

    def draw() -> bytes:
        with plot_style():
            figure = new_figure((300, 400))
            figure.add_subplot().plot([0, 1], [0, 1])
            return figure_image(figure).tobytes()

    expected = draw()
    with matplotlib.rc_context({"font.size": 22, "axes.facecolor": "black"}):
        assert draw() == expected
        assert matplotlib.rcParams["font.size"] == 22  # and the plot does not change them


def test_without_matplotlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_matplotlib() is None
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    problem = missing_matplotlib()
    assert problem is not None and problem.startswith("plots must have matplotlib; got ")
    assert problem.endswith(": pip install matplotlib")
    with pytest.raises(ModuleNotFoundError, match="plots must have matplotlib"), plot_style():
        pass
