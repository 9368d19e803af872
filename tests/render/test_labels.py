"""Places of labels: next to their object, over none, with a line to it if they are farther away."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.render.canvas import Canvas, Rect, text_size
from bevstack.render.labels import Label, LabelPlacer, bounding_rect

CAP_PX = 8.0
GREEN = (0, 220, 0)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def placer(height: int = 200, width: int = 300) -> tuple[Canvas, LabelPlacer]:
    canvas = Canvas.filled(height, width, (0, 0, 0))
    return canvas, LabelPlacer(canvas, CAP_PX)


def test_label_stands_above_the_middle_of_its_box() -> None:
    canvas, labels = placer()
    outline = box(100, 100, 180, 150)
    labels.occupy(outline)
    assert labels.write_above(Label("car 0.50", GREEN, outline))
    (text,) = canvas.texts
    assert text.bottom <= 100 and text.bottom >= 97
    assert (text.left + text.right) / 2 == pytest.approx(140, abs=1)


def test_label_moves_up_over_another_object_and_gets_a_line_down_to_its_own() -> None:
    canvas, labels = placer()
    outline, obstacle = box(100, 120, 180, 150), box(60, 80, 220, 118)
    labels.occupy(outline)
    labels.occupy(obstacle)
    assert labels.write_above(Label("car 0.50", GREEN, outline))
    (text,) = canvas.texts
    assert text.bottom <= 80
    column = canvas.pixels[text.bottom : 119, 139:142].max(1)
    assert (column[:, 1] > 60).all()


def test_label_goes_below_if_there_is_no_place_above() -> None:
    canvas, labels = placer()
    outline = box(100, 5, 180, 60)
    labels.occupy(outline)
    assert labels.write_above(Label("car 0.50", GREEN, outline))
    assert canvas.texts[0].top >= 60


def test_label_without_a_free_place_is_left_out() -> None:
    canvas, labels = placer()
    labels.occupy(box(0, 0, 300, 200))
    outline = box(100, 50, 180, 60)
    assert not labels.write_above(Label("car", GREEN, outline))
    assert not labels.write_beside(Label("7", GREEN, outline))
    assert not canvas.texts and not canvas.pixels.any()


def test_no_label_covers_an_object_a_label_or_a_line_in_a_crowd() -> None:
    random = np.random.default_rng(0)
    canvas, labels = placer(300, 500)
    outlines = []
    for _ in range(25):
        left, top = random.uniform((0, 150), (460, 260))
        outlines.append(box(left, top, *(np.array((left, top)) + random.uniform(8, 40, 2))))
    for outline in outlines:
        labels.occupy(outline)
    written = sum(labels.write_above(Label(f"car {i}", GREEN, o)) for i, o in enumerate(outlines))
    written += sum(labels.write_beside(Label(str(i), GREEN, o)) for i, o in enumerate(outlines))
    assert written == len(canvas.texts) > 10
    for i, text in enumerate(canvas.texts):
        assert text.inside(canvas.bounds)
        assert not any(text.overlaps(other) for other in canvas.texts[i + 1 :])
        assert not any(text.overlaps(bounding_rect(o, canvas.bounds)) for o in outlines)


def test_number_stands_beside_its_object() -> None:
    canvas, labels = placer()
    outline = box(100, 100, 110, 110)
    labels.occupy(outline)
    assert labels.write_beside(Label("12", GREEN, outline))
    height, width = text_size("12", CAP_PX)
    assert canvas.texts == [Rect(110 + 1, 105 - height // 2, 110 + 1 + width, 105 + height // 2)]


def test_a_turned_box_keeps_only_its_own_outline_free() -> None:
    _, labels = placer()
    diamond = np.array([[100.0, 50.0], [150.0, 100.0], [100.0, 150.0], [50.0, 100.0]])
    labels.occupy(diamond)
    canvas, corner = labels._canvas, box(52, 52, 60, 60)
    assert labels.write_beside(Label("1", GREEN, corner))  # within the diamond's rectangle
    assert canvas.texts[0].overlaps(bounding_rect(diamond, canvas.bounds))
