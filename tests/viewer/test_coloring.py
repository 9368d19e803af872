"""Colours of boxes and texts: their contrast on the ground, and what greyscale still shows."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.render.colors import BACKGROUND, CLASS_COLORS, RGB
from bevstack.viewer.coloring import ERROR_COLORS, MODEL_COLORS, NEUTRAL, TRUTH, identity_color
from bevstack.viewer.drawn import draw
from bevstack.viewer.moment import ErrorKind, Moment
from bevstack.viewer.opencv_view import OpenCVRenderer
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.view_state import Eye, ViewState
from tests.viewer.moments import STATE, boxes, moment

BROWSER = (20, 20, 20)  # ground of the scene in the browser
SIZE = (640, 360)
PINHOLE = Pinhole(Eye(position_m=(0, 0, 6), look_at_m=(12, 0, 0)), SIZE)


def luminance(color: RGB) -> float:
    share = np.array(color) / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(light @ (0.2126, 0.7152, 0.0722))


def contrast(color: RGB, ground: RGB) -> float:
    """Return the contrast of a colour on a darker ground by WCAG 2.2."""
    return (luminance(color) + 0.05) / (luminance(ground) + 0.05)


def luma(color: RGB) -> float:
    return float(np.array(color) @ (0.299, 0.587, 0.114))


@pytest.mark.parametrize("ground", [BROWSER, BACKGROUND])
def test_lines_have_a_contrast_of_three_and_those_with_a_meaning_of_four_and_a_half(
    ground: RGB,
) -> None:
    # WCAG 2.2 asks 3 of graphics (1.4.11) and 4.5 of texts; the legend of pictures writes the names
    # of errors and models in their colours.
    for name, color in CLASS_COLORS.items():
        assert contrast(color, ground) >= 3.0, name
    for color in (*ERROR_COLORS.values(), *MODEL_COLORS, TRUTH, NEUTRAL):
        assert contrast(color, ground) >= 4.5, color
    assert min(contrast(identity_color(number), ground) for number in range(200)) >= 4.5


def test_errors_and_models_differ_in_greyscale() -> None:
    found = luma(ERROR_COLORS[ErrorKind.TRUE_POSITIVE])
    wrong = luma(ERROR_COLORS[ErrorKind.FALSE_POSITIVE])
    missed = luma(ERROR_COLORS[ErrorKind.MISSED])
    assert wrong + 40 < found < missed - 10  # missed boxes are dashed, too


def lit(shown: Moment, state: ViewState) -> float:
    """Return the part of an upper edge of a box that is lighter than the ground in greyscale."""
    picture = OpenCVRenderer(SIZE).render(draw(shown, state), PINHOLE)
    assert shown.true is not None
    source = shown.true if len(shown.true) else shown.predicted[0].boxes
    corners = source.corners()[0]
    start, end = PINHOLE.to_pixels(PINHOLE.to_camera(corners[[5, 6]]))  # across, at the back
    places = np.rint(start + np.linspace(0.02, 0.98, 400)[:, None] * (end - start)).astype(int)
    grey = picture @ (0.299, 0.587, 0.114)
    return float((grey[places[:, 1], places[:, 0]] > 110).mean())


@pytest.mark.parametrize("label", range(len(CLASS_COLORS)))
def test_true_boxes_are_dashed_and_predicted_ones_are_not_in_greyscale(label: int) -> None:
    state = ViewState(scene=STATE.scene, min_score=0.0, layers=frozenset({"predicted", "true"}))
    one, nothing = boxes((12.0, 0.0, 0.0), label=label), boxes()
    assert lit(moment(nothing, one), state) == pytest.approx(5 / 9, abs=0.12)
    dark = luma(list(CLASS_COLORS.values())[label]) < 115
    assert dark or lit(moment(one, nothing), state) > 0.97
