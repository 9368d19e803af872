"""Ground below the boxes: drivable area, lanes and the path driven, each on its pixels."""

from __future__ import annotations

import numpy as np
import torch

from bevstack.render import BEVView, Surroundings, draw_bev
from bevstack.render.colors import LANE, PANEL, ROAD, TRAIL
from tests.render.scenes import NAMES, layer_of, make_boxes

VIEW = BEVView(height_px=400, x_range_m=(-40.0, 40.0), y_range_m=(-40.0, 40.0))  # 5 px a metre
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def pixel(drawn: np.ndarray, x_m: float, y_m: float) -> tuple[int, ...]:
    column, row = VIEW.to_pixels(np.array([x_m, y_m]))
    return tuple(drawn[int(row), int(column)].tolist())


def test_drivable_area_is_filled_and_its_holes_are_not() -> None:
    outlines = (SQUARE * 30 + (5, -35), SQUARE * 10 + (12, -22))
    drawn = draw_bev([], NAMES, VIEW, surroundings=Surroundings(drivable=outlines)).pixels
    assert pixel(drawn, 7, -33) == ROAD and pixel(drawn, 33, -31) == ROAD
    assert pixel(drawn, 18, -19) == PANEL  # in the hole
    assert pixel(drawn, -20, 33) == PANEL


def test_lanes_and_the_path_driven_are_lines() -> None:
    ground = Surroundings(
        lanes=(np.array([[-300.0, 12.2], [300.0, 12.2]]),),
        trail=np.array([[-900.0, 0.1], [-25.0, 0.1], [-12.0, 0.1], [0.0, 0.1]]),
    )
    drawn = draw_bev([], NAMES, VIEW, surroundings=ground).pixels.astype(int)
    assert np.abs(np.array(pixel(drawn, 23, 12.2)) - LANE).max() < 20
    assert np.abs(np.array(pixel(drawn, -17, 0.1)) - TRAIL).max() < 40
    bright = (drawn.min(-1) > 180).sum(1)  # a dot at an earlier position is wider than the line
    dot, line = (int(VIEW.to_pixels(np.array([x, 0.0]))[1]) for x in (-25.0, -18.0))
    assert bright[dot] >= 3 > bright[line]


def test_nothing_known_changes_nothing() -> None:
    bare = draw_bev([], NAMES, VIEW).pixels
    empty = Surroundings(trail=np.zeros((1, 2)))
    np.testing.assert_array_equal(bare, draw_bev([], NAMES, VIEW, surroundings=empty).pixels)


def test_ground_moves_with_its_frame() -> None:
    transform = np.eye(4)
    transform[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]  # a quarter turn
    transform[:3, 3] = (10, 20, 5)
    ground = Surroundings(drivable=(SQUARE,), lanes=(SQUARE * 2,), trail=np.array([[3.0, 4.0]]))
    moved = ground.transformed(transform)
    assert moved.trail is not None
    np.testing.assert_allclose(moved.trail, [[6, 23]])
    np.testing.assert_allclose(moved.drivable[0][1], (10, 21))
    np.testing.assert_allclose(moved.lanes[0][2], (8, 22))


def test_true_boxes_below_predicted_ones_are_grey_areas_and_numbers_avoid_both() -> None:
    box = [20.0, 10.0, 0.0, 8.0, 4.0, 1.0, 0.0, 0.0, 0.0]
    layer, true = (
        layer_of(make_boxes([[*row[:1], y, *row[2:]]])) for row, y in ((box, 10), (box, 4))
    )
    numbered = type(layer)(layer.boxes, layer.labels, layer.scores, layer.style, torch.tensor([7]))
    drawn = draw_bev([numbered], NAMES, VIEW, shadow=true)
    assert len(set(pixel(drawn.pixels, 18, 4))) == 3 and pixel(drawn.pixels, 18, 4)[0] > 80
    number = drawn.texts[-1]
    left, top = VIEW.to_pixels(np.array([24.0, 12.0]))
    right, bottom = VIEW.to_pixels(np.array([16.0, 2.0]))
    inside = left < (number.left + number.right) / 2 < right
    assert not (inside and top < (number.top + number.bottom) / 2 < bottom)
    plain = draw_bev([layer], NAMES, VIEW, shadow=true)
    assert len(drawn.texts) == len(plain.texts) + 1
