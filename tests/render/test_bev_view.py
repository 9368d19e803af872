"""The bird's-eye view: known points are drawn on their pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bevstack.render import BEVView, BoxStyle, draw_bev
from bevstack.render.arrows import ARROW_S
from bevstack.render.bev_view import EGO_LENGTH_M, ring_step
from bevstack.render.colors import MUTED
from bevstack.render.layers import make_layers
from bevstack.types import Boxes3D
from tests.render.scenes import (
    NAMES,
    assert_texts_are_whole,
    layer_of,
    make_boxes,
    random_detections,
)

VIEW = BEVView(height_px=500, x_range_m=(-40.0, 60.0), y_range_m=(-30.0, 50.0))  # 5 px a metre
RED = BoxStyle(name="red", color=(255, 0, 0))


def red_pixels(boxes: Boxes3D) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the pixels that a red box covers."""
    drawn = draw_bev([layer_of(boxes, RED)], NAMES, VIEW).pixels.astype(int)
    return np.nonzero(drawn[..., 0] - drawn[..., 1] > 120)


def test_forward_is_up_and_left_is_left() -> None:
    assert VIEW.width_px == 400
    # 20 m ahead and 10 m to the left: 40 m below the upper border, 40 m from the left one.
    np.testing.assert_allclose(VIEW.to_pixels(np.array([20.0, 10.0])), (200.0, 200.0))
    np.testing.assert_allclose(VIEW.to_pixels(np.array([60.0, 50.0, 3.0])), (0.0, 0.0))
    np.testing.assert_allclose(VIEW.to_pixels(np.array([-40.0, -30.0])), (400.0, 500.0))


def test_box_covers_the_pixels_of_its_outline() -> None:
    rows, columns = red_pixels(make_boxes([[20.0, 10.0, 0.0, 8.0, 4.0, 1.0, 0.0, 0.0, 0.0]]))
    # 8 m long: rows 180 to 220; 4 m wide: columns 190 to 210.
    assert (rows.min(), rows.max()) == pytest.approx((180, 220), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((190, 210), abs=1)


def test_yaw_turns_the_box_counter_clockwise() -> None:
    box = make_boxes([[20.0, 10.0, 0.0, 8.0, 0.4, 1.0, math.pi / 2, 0.0, 0.0]])
    rows, columns = red_pixels(box)
    assert np.ptp(columns) == pytest.approx(40, abs=3) and np.ptp(rows) < 6


def test_heading_line_runs_from_the_centre_to_the_front() -> None:
    rows, columns = red_pixels(make_boxes([[20.0, 10.0, 0.0, 8.0, 4.0, 1.0, 0.0, 0.0, 0.0]]))
    middle = rows[(columns >= 199) & (columns <= 200) & (rows > 182) & (rows < 218)]
    assert middle.min() < 186 and middle.max() == pytest.approx(200, abs=1)


def test_arrow_ends_where_the_object_will_be() -> None:
    box = make_boxes([[20.0, 10.0, 0.0, 2.0, 1.0, 1.0, 0.0, 0.0, -9.0]])
    _, columns = red_pixels(box)
    # From the centre of the front, at y = 10, to the right by 9 m/s.
    assert columns.max() == pytest.approx(200 + 5 * 9 * ARROW_S, abs=1)


@pytest.mark.parametrize("velocity", [(math.nan, math.nan), (0.2, -0.1), (0.0, 0.0)])
def test_unknown_or_small_velocity_draws_no_arrow(velocity: tuple[float, float]) -> None:
    standing = red_pixels(make_boxes([[20.0, 10.0, 0.0, 2.0, 1.0, 1.0, 0.3, 0.0, 0.0]]))
    drawn = red_pixels(make_boxes([[20.0, 10.0, 0.0, 2.0, 1.0, 1.0, 0.3, *velocity]]))
    np.testing.assert_array_equal(standing, drawn)


def test_boxes_beyond_the_border_are_cut_away() -> None:
    far = make_boxes([[1e7, -1e8, 0.0, 4.0, 2.0, 1.0, 0.3, 1e4, 0.0]])
    np.testing.assert_array_equal(
        draw_bev([layer_of(far)], NAMES, VIEW).pixels, draw_bev([], NAMES, VIEW).pixels
    )
    half = make_boxes([[60.0, 50.0, 0.0, 8.0, 4.0, 1.0, 0.0, 0.0, 0.0]])
    rows, columns = red_pixels(half)
    assert rows.max() == pytest.approx(20, abs=1) and columns.max() == pytest.approx(10, abs=1)


def test_ego_vehicle_is_drawn_at_the_origin() -> None:
    drawn = draw_bev([], NAMES, VIEW).pixels
    painted = (drawn[:, 250] == MUTED).all(-1)  # y = 0 is column 250
    rows = np.nonzero(painted)[0]
    rows = rows[(rows > 270) & (rows < 320)]
    assert np.ptp(rows) == pytest.approx(5 * EGO_LENGTH_M, abs=3)
    assert rows.min() < 300 < rows.max()  # x = 0 is row 300


def test_ring_is_drawn_at_its_range() -> None:
    drawn = draw_bev([], NAMES, VIEW).pixels.astype(int)
    ego_row = drawn[300].sum(-1)
    background = drawn[2, 2].sum()
    # Rings every 10 m: columns 250 - 50 k to the left of the origin.
    lit = np.nonzero(ego_row > background + 25)[0]
    for radius in (10, 20, 30, 40):
        assert np.abs(lit + 0.5 - (250 - 5 * radius)).min() <= 1.0


@pytest.mark.parametrize(("reach", "step"), [(52, 10), (6, 2), (3.1, 1), (150, 50), (0.9, 0.2)])
def test_rings_are_a_round_distance_apart(reach: float, step: float) -> None:
    assert ring_step(reach) == pytest.approx(step)
    assert 3 <= reach / ring_step(reach) < 7.6


@pytest.mark.parametrize("height", [100, 225, 720])
def test_ranges_are_uncut_and_do_not_overlap_among_many_boxes(height: int) -> None:
    view = BEVView(height_px=height, grid_m=5.0)
    drawn = draw_bev(make_layers(random_detections(300, 1, 50.0), None), NAMES, view)
    assert drawn.texts
    assert_texts_are_whole(drawn)


def test_grid_adds_lines() -> None:
    with_grid = draw_bev([], NAMES, BEVView(height_px=200, grid_m=10.0)).pixels
    assert (with_grid != draw_bev([], NAMES, BEVView(height_px=200)).pixels).any()


def test_overlapping_true_and_predicted_boxes_are_both_visible() -> None:
    detections = random_detections(1, 4)
    boxes = make_boxes([[20.0, 10.0, 0.0, 8.0, 4.0, 1.0, 0.0, 0.0, 0.0]])
    moved = make_boxes([[22.0, 11.0, 0.0, 8.0, 4.0, 1.0, 0.1, 0.0, 0.0]])
    from bevstack.types import Annotations, Detections

    label = torch.zeros(1, dtype=torch.int64)
    layers = make_layers(
        Detections(boxes, detections.scores, label), Annotations(moved, label, label + 3)
    )
    drawn = draw_bev(layers, NAMES, VIEW).pixels.astype(int)
    yellow = (drawn[..., 0] > 200) & (drawn[..., 2] < 90)
    white = drawn.min(-1) > 200
    assert yellow.sum() > 50 and white.sum() > 20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x_range_m": (3.0, 3.0)}, "x_range_m must be"),
        ({"height_px": 0}, "height_px must be positive"),
        ({"grid_m": 0.0}, "grid_m must be positive"),
    ],
)
def test_invalid_view_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BEVView(**fields)  # type: ignore[arg-type]
