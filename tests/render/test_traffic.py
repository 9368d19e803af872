"""Lights, signs and the cue in pictures: places, colours, words, and no label over another."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from bevstack.render import TrafficLayer, cue_marks, draw_bev, draw_sheet, make_layers, true_marks
from bevstack.render.bev_view import BEVView
from bevstack.render.canvas import Canvas, text_size
from bevstack.render.colors import ADVICE_COLORS, PANEL, STATE_COLORS
from bevstack.render.cue_panel import draw_cue_panel, wrap_text
from bevstack.render.element_marks import ElementMark
from bevstack.render.element_view import draw_elements
from bevstack.render.lamp_glyphs import draw_glyph
from bevstack.types.traffic import Lamp
from bevstack.vocabulary import CAMERA_CHANNELS, LAMP_SHAPES, SIGN_MEANINGS
from tests.render.scenes import NAMES, assert_texts_are_whole, make_frame, random_detections
from tests.render.test_colors import SIGHT, lab
from tests.render.traffic_marks import make_cue, make_ego_cues, make_element

SIZE = (90, 160)


def luminance(color: tuple[int, int, int]) -> float:
    """Return the relative luminance of WCAG 2."""
    encoded = np.array(color) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def moved_to_vehicle() -> np.ndarray:
    """Return ego_from_world of a vehicle at (100, 50) that looks along x."""
    pose = np.eye(4)
    pose[:2, 3] = (-100.0, -50.0)
    return pose


def test_words_on_the_colours_of_advice_are_readable() -> None:
    for ground, ink in ADVICE_COLORS.values():
        light, dark = sorted((luminance(ground), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA


def test_advice_differs_for_colour_blind_readers() -> None:
    for sight in SIGHT.values():
        for (_, first), (_, second) in combinations(ADVICE_COLORS.items(), 2):
            # 10 units are visible side by side; the word beside the colour states it, too
            assert np.linalg.norm(lab(first[0], sight) - lab(second[0], sight)) > 10


def test_marks_of_cues_have_words_for_states_and_signs() -> None:
    cues = (
        make_cue("a", lamps=(Lamp("yellow", "circle", "flashing"),), name="flashing_yellow"),
        make_cue("b", lamps=(), name="unknown", applies=0.2),
        make_cue("c", meaning="speed_limit"),
        make_cue("d", meaning="no_left_turn", box_px=None),
    )
    marks = cue_marks(cues)
    assert [m.name for m in marks] == [
        "flashing yellow",
        "unknown",
        "speed limit 50",
        "no left turn",
    ]
    assert [m.governs for m in marks] == [True, False, True, True]
    assert not any(m.governs for m in cue_marks(cues, "left"))  # they apply to going straight
    assert marks[0].caption == "flashing yellow 30 m 0.98"
    assert [m.color for m in marks[:3]] == [STATE_COLORS[n] for n in ("yellow", "unknown", "sign")]


def test_marks_of_true_elements_are_in_the_ego_frame_and_know_the_own_lane() -> None:
    lanes = {"own": np.array([[100.0, 50.0], [130.0, 50.0]])}
    elements = (
        make_element("t"),
        make_element("s", manoeuvres=("left",)),
        make_element("o", lane_tokens=("next",)),
        make_element("n", lamps=None, attribute="green", lane_tokens=()),
        make_element("d", lamps=()),
    )
    turned = np.array([[0, 1, 0, -50], [-1, 0, 0, 100], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    mark = true_marks(elements[:1], turned, lanes, {"own"})[0]
    assert mark.position_m == pytest.approx((2.0, -30.0, 5.0))  # the vehicle looks along +y
    assert np.sin(mark.yaw_rad) == pytest.approx(1.0)  # it faces -x of the world: to the left
    np.testing.assert_allclose(mark.lanes[0], [[0, 0], [0, -30]])
    marks = true_marks(elements, moved_to_vehicle(), lanes, {"own"}, "straight")
    assert [m.governs for m in marks] == [True, False, False, False, True]
    assert [m.name for m in marks] == ["red", "red", "red", "green", "off"]


def test_a_frame_stands_around_the_element_and_leaves_its_pixels() -> None:
    canvas = Canvas.filled(*SIZE, PANEL)
    mark = cue_marks([make_cue()])[0]
    draw_elements(canvas, [mark])
    left, top, right, bottom = map(int, mark.box_px)
    inside = canvas.pixels[top + 1 : bottom - 1, left + 1 : right - 1]
    assert (inside == PANEL).all()
    rows, columns = np.nonzero((canvas.pixels != PANEL).any(2))
    assert left - 7 < columns.min() < left and right < columns.max() < right + 7
    assert top - 7 < rows.min() < top and bottom < rows.max() < bottom + 7
    nearest = np.abs(canvas.pixels.astype(int) - mark.color).sum(2).min()
    assert nearest < 30  # antialiasing mixes the colour a little


def test_true_elements_beside_predicted_ones_have_corners_only() -> None:
    canvas = Canvas.filled(*SIZE, PANEL)
    mark = true_marks([make_element()], moved_to_vehicle(), {})[0]
    draw_elements(canvas, [], [mark])
    changed = (canvas.pixels != PANEL).any(2)
    assert changed.any() and not changed[28:32].any()  # the middles of the sides are free
    assert canvas.texts == []


@pytest.mark.parametrize("shape", LAMP_SHAPES)
def test_lamps_are_drawn_within_their_radius_in_their_colour(shape: str) -> None:
    canvas = Canvas.filled(60, 60, PANEL)
    mark = ElementMark(kind="light", name="green", lamps=(Lamp("green", shape),))
    draw_glyph(canvas, mark, (30.0, 30.0), 20.0)
    rows, columns = np.nonzero((canvas.pixels != PANEL).any(2))
    assert min(rows.min(), columns.min()) >= 8 and max(rows.max(), columns.max()) <= 52
    assert (np.abs(canvas.pixels.astype(int) - STATE_COLORS["green"]).sum(2) < 6).sum() > 60


def test_left_and_right_arrows_are_mirror_images_and_turns_have_distinct_drawings() -> None:
    drawn = {}
    for meaning in SIGN_MEANINGS:
        canvas = Canvas.filled(41, 41, PANEL)
        draw_glyph(canvas, ElementMark(kind="sign", name="", meaning=meaning), (20.5, 20.5), 16.0)
        drawn[meaning] = canvas.pixels
    for (first, a), (second, b) in combinations(drawn.items(), 2):
        assert np.abs(a.astype(int) - b).sum() > 1000, (first, second)
    mirrored = drawn["turn_left"][:, ::-1].astype(int)
    # antialiasing of lines differs between the sides
    assert np.abs(mirrored - drawn["turn_right"]).mean() < 6


def sheet_layer(predicted: bool = True, **options) -> TrafficLayer:
    cues = [make_cue(str(k), box_px=(60.0 + 9 * k, 20, 66 + 9 * k, 40)) for k in range(6)]
    cues.append(make_cue("sign", meaning="stop", box_px=(20, 30, 30, 40), applies=0.1))
    return TrafficLayer(
        predicted=cue_marks(cues) if predicted else None,
        true=true_marks([make_element()], moved_to_vehicle(), {}, {"own"}),
        **options,
    )


@pytest.mark.parametrize("lost", [False, True])
def test_sheets_have_whole_texts_and_one_size_whatever_is_seen(lost: bool) -> None:
    sizes = [None if lost else SIZE, *[SIZE] * 5]
    frame = make_frame(sizes, CAMERA_CHANNELS)
    detections = random_detections(8, 3)
    layers = make_layers(detections, None)
    drawn = []
    for traffic in (
        sheet_layer(ego_cues=make_ego_cues(elements=("0", "1"))),
        TrafficLayer(predicted=(), ego_cues=make_ego_cues("unknown", ())),
        TrafficLayer(predicted=()),
    ):
        canvas = draw_sheet(frame, layers, NAMES, title="x", traffic=traffic)
        assert_texts_are_whole(canvas)
        drawn.append(canvas.size)
    assert len(set(drawn)) == 1
    plain = draw_sheet(frame, layers, NAMES, title="x")
    assert plain.size[1] == drawn[0][1] and plain.size[0] < drawn[0][0]


def test_the_panel_shows_the_advice_of_the_commanded_manoeuvre_in_its_colour() -> None:
    frame = make_frame([SIZE], ("CAM_FRONT",))
    for manoeuvre, advice in (("", "stop"), ("straight", "stop"), ("left", "unknown")):
        layer = sheet_layer(ego_cues=make_ego_cues(elements=("0",)), manoeuvre=manoeuvre)
        panel = draw_cue_panel(frame, layer, 900, 8.0)
        assert tuple(panel.pixels[1, 1]) == ADVICE_COLORS[advice][0]
        assert_texts_are_whole(panel)
    true_alone = draw_cue_panel(frame, sheet_layer(False, true_state="red"), 900, 8.0)
    assert true_alone.size == panel.size


def test_elements_stand_at_their_places_from_above() -> None:
    view = BEVView(height_px=400)
    marks = cue_marks(
        [make_cue(position_m=(30.0, 20.0, 5.0)), make_cue("far", position_m=(90, 0, 5))]
    )
    plain = draw_bev((), NAMES, view).pixels.astype(int)
    changed = np.abs(draw_bev((), NAMES, view, elements=marks).pixels - plain).sum(2) > 0
    column, row = view.to_pixels(np.array([30.0, 20.0])).round().astype(int)
    assert changed[row - 2 : row + 3, column - 2 : column + 3].any()
    rows, columns = np.nonzero(changed[:, : 200 - 12])  # left of the stop line on the own path
    assert abs(rows - row).max() < 40 and abs(columns - column).max() < 60
    stop_row = int(view.to_pixels(np.array([30.0, 0.0]))[1])
    assert changed[stop_row - 2 : stop_row + 3, 198:203].any()


def test_a_long_reason_takes_two_lines_and_loses_no_word() -> None:
    reason = "unknown: the light for your lane was seen 1.4 s ago; memory cleared: time went back"
    width = text_size(reason, 9.0)[1] * 2 // 3
    lines = wrap_text(reason, 9.0, width)
    assert len(lines) == 2 and " ".join(lines) == reason
    assert all(text_size(line, 9.0)[1] <= width for line in lines)
    assert wrap_text(reason, 9.0, 10_000) == [reason]
    assert len(wrap_text(reason, 9.0, width // 4)) == 2  # the rest of the last line is cut


def test_lamps_with_an_arrow_are_named_with_it() -> None:
    (mark,) = cue_marks([make_cue(lamps=(Lamp("red", "left"),))])
    assert mark.caption == "red left 30 m 0.98"
