"""The canvas: text within its measured rectangle, lines and fills on the requested pixels."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.render.canvas import Canvas, Rect, fit_text, text_size

PRINTABLE = "".join(map(chr, range(32, 127)))


@pytest.mark.parametrize("cap_px", [8.0, 9.3, 12.0, 17.8, 30.0])
def test_ink_of_every_character_lies_within_the_measured_box(cap_px: float) -> None:
    for start in range(0, len(PRINTABLE), 8):
        string = PRINTABLE[start : start + 8]
        height, width = text_size(string, cap_px)
        canvas = Canvas.filled(height + 20, width + 20, (0, 0, 0))
        assert canvas.text(string, 10, 10, cap_px, (255, 255, 255)) == Rect(
            10, 10, 10 + width, 10 + height
        )
        inner = canvas.pixels[11 : 9 + height, 11 : 9 + width]
        assert inner.any()
        # A free border of one pixel: the rectangle cut off nothing.
        assert int(canvas.pixels.sum()) == int(inner.sum()), string


def test_capitals_have_the_requested_height() -> None:
    for cap_px in (8.0, 15.0, 40.0):
        canvas = Canvas.filled(100, 100, (0, 0, 0))
        canvas.text("H", 10, 10, cap_px, (255, 255, 255))
        rows = np.nonzero(canvas.pixels[..., 0].max(1) > 100)[0]
        assert np.ptp(rows) + 1 == pytest.approx(cap_px, abs=1.0)  # to a rounded pixel


def test_words_stand_apart_at_any_size() -> None:
    for cap_px in (7.0, 12.0, 30.0):
        height, width = text_size("HH HH", cap_px)
        canvas = Canvas.filled(height, width, (0, 0, 0))
        canvas.text("HH HH", 0, 0, cap_px, (255, 255, 255))
        dark = np.nonzero(canvas.pixels[..., 0].max(0) < 60)[0]
        gaps = np.split(dark, np.flatnonzero(np.diff(dark) > 1) + 1)
        inner = max(len(gap) for gap in gaps if gap[0] > 0 and gap[-1] < width - 1)
        assert inner >= 0.4 * cap_px


def test_text_in_other_scripts_is_still_drawn() -> None:
    canvas = Canvas.filled(40, 200, (0, 0, 0))
    canvas.text("Fußgänger 歩行者", 0, 0, 10, (255, 255, 255))
    assert canvas.pixels.any()


def test_character_that_the_font_lacks_is_a_question_mark() -> None:
    drawn = []
    for string in ("a歩\nb°", "a??b°", "a??b?"):
        canvas = Canvas.filled(40, 200, (0, 0, 0))
        canvas.text(string, 0, 0, 10, (255, 255, 255))
        drawn.append(canvas.pixels)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[1] != drawn[2]).any()  # the font has a degree sign


def test_text_that_does_not_fit_is_shortened() -> None:
    assert fit_text("car", 10, 400) == "car"
    for room in (30, 60, 90):
        fitted = fit_text("construction vehicle", 10, room)
        assert fitted.endswith("..") and text_size(fitted, 10)[1] <= room
    assert fit_text("construction vehicle", 10, 5) == ""


def test_rectangle_is_free_until_a_text_is_written_there() -> None:
    canvas = Canvas.filled(50, 100, (0, 0, 0))
    rect = canvas.text("ab", 10, 10, 10, (255, 255, 255))
    assert not canvas.is_free(rect)
    assert canvas.is_free(rect.moved(rect.width, 0))
    assert not canvas.is_free(Rect(90, 40, 101, 50)) and not canvas.is_free(Rect(-1, 0, 5, 5))


def test_text_beyond_the_border_is_cut_without_error() -> None:
    canvas = Canvas.filled(10, 10, (0, 0, 0))
    canvas.text("abc", -5, -3, 12, (255, 255, 255))
    canvas.text("abc", 50, 50, 12, (255, 255, 255))
    assert canvas.pixels.any()


def test_line_runs_through_pixel_centres() -> None:
    canvas = Canvas.filled(20, 30, (0, 0, 0))
    canvas.line(np.array([[5.0, 10.5], [25.0, 10.5]]), (255, 0, 0), 1)
    # Row 10 covers v in [10, 11): the line at 10.5 is in its middle.
    # OpenCV's antialiased lines have a little less than full intensity and are 1.5 pixels wide,
    # symmetric to both sides.
    assert (canvas.pixels[10, 6:24, 0] > 200).all()
    np.testing.assert_allclose(canvas.pixels[9].astype(int), canvas.pixels[11], atol=12)
    assert canvas.pixels[9].max() < 100
    assert canvas.pixels[8].max() == 0 and canvas.pixels[12].max() == 0


def test_area_leaves_holes_empty() -> None:
    canvas = Canvas.filled(40, 60, (0, 0, 0))
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    canvas.area([10 + 24 * square, 16 + 10 * square, square[:2]], (9, 99, 199))
    assert tuple(canvas.pixels[12, 12]) == (9, 99, 199)
    assert not canvas.pixels[20, 20].any() and not canvas.pixels[38, 38].any()
    canvas.area([], (255, 255, 255))


def test_disc_is_filled_and_round() -> None:
    canvas = Canvas.filled(40, 60, (0, 0, 0))
    canvas.disc((30.0, 20.0), 8.0, (255, 0, 0))
    lit = canvas.pixels[..., 0] > 128
    assert lit.sum() == pytest.approx(np.pi * 8**2, rel=0.15)  # antialiased, half a pixel wider
    assert lit[20, 30] and lit[20, 23] and not lit[13, 23]


def test_polygon_is_blended_with_the_pixels_below() -> None:
    canvas = Canvas.filled(40, 60, (100, 0, 200))
    square = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])
    canvas.polygon(square, (200, 100, 0), 0.5)
    np.testing.assert_allclose(canvas.pixels[20, 20].astype(int), (150, 50, 100), atol=1)
    np.testing.assert_array_equal(canvas.pixels[5, 5], (100, 0, 200))


@pytest.mark.parametrize("shift", [(-100.0, 0.0), (0.0, -100.0), (100.0, 0.0), (0.0, 100.0)])
def test_polygon_beside_the_picture_paints_nothing(shift: tuple[float, float]) -> None:
    canvas = Canvas.filled(40, 60, (0, 0, 0))
    square = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])
    canvas.polygon(square + np.array(shift), (255, 255, 255), 1.0)
    canvas.polygon(square[:0], (255, 255, 255), 1.0)
    assert not canvas.pixels.any()


def test_pasting_keeps_texts_in_place() -> None:
    small, large = Canvas.filled(30, 60, (9, 9, 9)), Canvas.filled(100, 100, (0, 0, 0))
    rect = small.text("a", 3, 4, 10, (255, 255, 255))
    large.paste(small, 20, 50)
    assert large.texts == [rect.moved(20, 50)]
    np.testing.assert_array_equal(large.pixels[50:80, 20:80], small.pixels)
