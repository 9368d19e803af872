"""Sheets: arrangement of cameras, uncut texts, unequal image sizes, lost cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.geometry import invert_se3
from bevstack.render import SheetStyle, draw_sheet, make_layers, select_detections
from bevstack.render.colors import CLASS_COLORS
from bevstack.render.sheet import arrange_cameras, fit_image
from bevstack.types import Annotations, Boxes3D, Detections
from bevstack.vocabulary import CAMERA_CHANNELS
from tests.render.scenes import (
    NAMES,
    assert_texts_are_whole,
    make_boxes,
    make_frame,
    random_detections,
)

WIDE, ROAD, UPRIGHT = (225, 400), (900, 1600), (200, 150)


def truth(count: int = 12) -> Annotations:
    boxes = random_detections(count, 8)
    return Annotations(boxes.boxes, boxes.labels, torch.ones(count, dtype=torch.int64))


def test_six_cameras_are_arranged_by_their_directions() -> None:
    cells = dict(zip(CAMERA_CHANNELS, arrange_cameras(CAMERA_CHANNELS, 6), strict=True))
    assert cells == {
        "CAM_FRONT_LEFT": (0, 0),
        "CAM_FRONT": (0, 1),
        "CAM_FRONT_RIGHT": (0, 2),
        "CAM_BACK_LEFT": (1, 0),
        "CAM_BACK": (1, 1),
        "CAM_BACK_RIGHT": (1, 2),
    }


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (6, (2, 3)), (7, (3, 3))],
)
def test_other_cameras_fill_a_grid_in_their_order(count: int, shape: tuple[int, int]) -> None:
    cells = arrange_cameras((), count)
    assert cells == sorted(cells) and len(set(cells)) == count
    assert tuple(max(cell[axis] for cell in cells) + 1 for axis in (0, 1)) == shape


@pytest.mark.parametrize(
    "sizes",
    [
        [ROAD],
        [WIDE, UPRIGHT],
        [WIDE] * 6,
        [ROAD, WIDE, None, UPRIGHT, (100, 101), WIDE],
        [WIDE, None, UPRIGHT, (64, 300), WIDE, (225, 401), None],
        [None],
        [WIDE, (8, 400)],
    ],
    ids=["one", "two", "six", "six unequal", "seven", "all lost", "a stripe"],
)
@pytest.mark.parametrize("tile_width", [200, 400, 560])
def test_no_text_is_cut_or_overlapped(sizes: list[tuple[int, int] | None], tile_width: int) -> None:
    frame = make_frame(sizes)
    detections = select_detections(random_detections(300, 1), min_score=0.3)
    sheet = draw_sheet(
        frame,
        make_layers(detections, truth()),
        NAMES,
        title="scene-0103, key frame 12 of 40, a long title that may have to be cut",
        caption="60 of 300 predicted boxes, score >= 0.3, best 0.99",
        style=SheetStyle(tile_width_px=tile_width),
    )
    assert len(sheet.texts) >= len(sizes) + 4
    assert_texts_are_whole(sheet)


def test_six_nuscenes_cameras_are_drawn_from_left_to_right() -> None:
    frame = make_frame([WIDE] * 6, CAMERA_CHANNELS)
    colors = {name: (40 * i + 20, 10, 250 - 40 * i) for i, name in enumerate(CAMERA_CHANNELS)}
    images = [np.full((*WIDE, 3), colors[name], np.uint8) for name in CAMERA_CHANNELS]
    frame = replace(frame, images=images)
    style = SheetStyle(tile_width_px=400, camera_names=False)
    sheet = draw_sheet(frame, (), NAMES, style=style).pixels
    middle_row, below = 6 + 112, 6 + 225 + 6 + 112
    order = [
        tuple(sheet[row, 6 + 406 * column + 200])
        for row in (middle_row, below)
        for column in range(3)
    ]
    roles = ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT")
    assert order == [colors[f"CAM_{role}"] for role in roles]


def test_intrinsics_follow_the_image_when_it_is_resized() -> None:
    image = np.zeros((900, 1600, 3), np.uint8)
    image[300:310, 700:710] = 255
    intrinsics = np.array([[1200.0, 0.0, 700.0], [0.0, 1100.0, 300.0], [0.0, 0.0, 1.0]])
    for width in (400, 561, 2000):
        resized, matrix = fit_image(image, intrinsics, width)
        assert resized.shape[1] == width
        column, row = matrix[0, 2], matrix[1, 2]
        lit = np.argwhere(resized[..., 0] > 127)
        np.testing.assert_allclose(lit.min(0), (row, column), atol=1.0)
    upright, _ = fit_image(np.zeros((300, 100, 3), np.uint8), intrinsics, 150)
    assert upright.shape == (150, 50, 3)


def test_lost_camera_is_not_drawn_even_if_it_has_an_image() -> None:
    frame = make_frame([WIDE, WIDE])
    masked = replace(frame, camera_mask=torch.tensor([True, False]))
    without = replace(frame, images=[frame.images[0], None], camera_mask=None)
    drawn = [draw_sheet(f, (), NAMES).pixels for f in (masked, without)]
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_sheet_without_boxes_is_drawn() -> None:
    empty = Detections(Boxes3D.empty(), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    layers = make_layers(empty, Annotations.empty())
    sheet = draw_sheet(make_frame([WIDE] * 2), layers, NAMES, title="nothing")
    assert_texts_are_whole(sheet)


def test_sheets_of_one_rig_are_equal_in_size() -> None:
    frame = make_frame([WIDE, None])
    captions = ("", "a caption that grows " * 20)
    layers = [make_layers(random_detections(count, count), truth(count)) for count in (0, 40)]
    shapes = {
        draw_sheet(frame, some, NAMES, title="t", caption=caption).pixels.shape
        for some in layers
        for caption in captions
    }
    assert len(shapes) == 1


def yellow(picture: np.ndarray) -> np.ndarray:
    """Return the mask of pixels in the colour of cars."""
    return np.abs(picture.astype(int) - CLASS_COLORS["car"]).sum(-1) < 60


def test_predicted_and_true_boxes_have_views_side_by_side_in_one_scale() -> None:
    frame = make_frame([WIDE] * 6, CAMERA_CHANNELS)
    label, score = torch.zeros(1, dtype=torch.int64), torch.ones(1)
    # The predicted car is 10 m ahead; the true one is 30 m behind.
    predicted, true = (
        make_boxes([[x, 5.0, 30.0, 5.0, 2.0, 1.5, 0.0, 0.0, 0.0]]) for x in (10.0, -30.0)
    )
    layers = make_layers(Detections(predicted, score, label), Annotations(true, label, label + 1))
    sheet = draw_sheet(frame, layers, NAMES, style=SheetStyle(tile_width_px=400)).pixels
    legend_px = 40
    below = yellow(sheet[2 * 225 + 12 :])[:-legend_px]
    left, right = np.split(below[:, : below.shape[1] // 2 * 2], 2, 1)
    (row_left, column_left), (row_right, column_right) = (
        np.argwhere(view).mean(0) for view in (left, right)
    )
    pixels_per_m = (1218 - 6 - 6) / 2 / 104
    assert row_right - row_left == pytest.approx(40 * pixels_per_m, abs=4)
    assert column_right == pytest.approx(column_left, abs=4)
    alone = draw_sheet(frame, layers[1:], NAMES, style=SheetStyle(tile_width_px=400)).pixels
    assert alone.shape[1] > sheet.shape[1] and alone.shape[0] < sheet.shape[0]


def test_same_input_gives_the_same_pixels() -> None:
    frame = make_frame([WIDE, UPRIGHT, None])
    layers = make_layers(random_detections(50, 3), truth())
    first, second = (draw_sheet(frame, layers, NAMES, title="t").pixels for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_sheet_does_not_depend_on_the_frame_of_the_boxes() -> None:
    frame = make_frame([WIDE] * 2)
    layers = make_layers(select_detections(random_detections(30, 3)), truth())
    lidar_from_ego = torch.tensor(  # x right, y forward, z up, as nuScenes' LIDAR_TOP
        [[0.0, -1, 0, 0], [1, 0, 0, -0.9], [0, 0, 1, -1.8], [0, 0, 0, 1]], dtype=torch.float64
    )
    in_lidar = replace(frame, bev_from_ego=lidar_from_ego)
    moved = [layer.transformed(lidar_from_ego) for layer in layers]
    torch.testing.assert_close(in_lidar.bev_from_cam(), lidar_from_ego @ frame.bev_from_cam())
    assert torch.allclose(invert_se3(lidar_from_ego) @ lidar_from_ego, torch.eye(4).double())
    first = draw_sheet(frame, layers, NAMES).pixels.astype(int)
    second = draw_sheet(in_lidar, moved, NAMES).pixels.astype(int)
    # Rounding may move a line by 1/16 pixel, the resolution of drawing.
    assert (np.abs(first - second).max(-1) > 40).mean() < 1e-4


def test_tile_too_narrow_for_text_is_refused() -> None:
    with pytest.raises(ValueError, match="tile_width_px must be at least 64; got 63"):
        SheetStyle(tile_width_px=63)
