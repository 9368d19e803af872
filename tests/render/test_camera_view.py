"""Boxes on camera images: corners on their pixels, nothing from behind, readable labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bevstack.geometry import invert_se3, se3_from_parts
from bevstack.render import TRUE, BoxStyle, draw_camera, draw_lost_camera, make_layers
from bevstack.render.clipping import to_camera, to_pixels
from bevstack.render.colors import CLASS_COLORS, PANEL
from bevstack.render.layers import as_array
from bevstack.types import Boxes3D
from tests.render.scenes import (
    NAMES,
    assert_texts_are_whole,
    layer_of,
    make_boxes,
    pose_of_camera,
    random_detections,
)

LINES = BoxStyle(name="lines", color=(255, 0, 0))  # no fill, no label
INTRINSICS = np.array([[320.0, 0.0, 190.0], [0.0, 300.0, 110.0], [0.0, 0.0, 1.0]])
POSE = pose_of_camera(30.0, (1.5, -0.4, 1.6))


def cam_from_ego() -> NDArray[np.float64]:
    return as_array(invert_se3(POSE))


def black(size: tuple[int, int] = (225, 400)) -> NDArray[np.uint8]:
    return np.zeros((*size, 3), np.uint8)


def corner_pixels(boxes: Boxes3D) -> NDArray[np.float64]:
    """Compute corners from the definition: rotate, shift, transform to the camera, project."""
    pixels = []
    (x, y, z), (length, width, height) = boxes.center[0].tolist(), boxes.size[0].tolist()
    yaw = float(boxes.yaw[0])
    view = np.deg2rad(30.0)
    for forward in (length / 2, -length / 2):
        for left in (width / 2, -width / 2):
            for up in (height / 2, -height / 2):
                px = x + forward * np.cos(yaw) - left * np.sin(yaw) - 1.5
                py = y + forward * np.sin(yaw) + left * np.cos(yaw) + 0.4
                depth = px * np.cos(view) + py * np.sin(view)
                right = px * np.sin(view) - py * np.cos(view)
                pixels.append(
                    (320.0 * right / depth + 190.0, 300.0 * (1.6 - z - up) / depth + 110.0)
                )
    return np.array(pixels)


def test_corners_are_drawn_on_their_pixels() -> None:
    boxes = make_boxes([[12.0, 6.0, 0.9, 4.2, 1.9, 1.5, 0.5, 0.0, 0.0]])
    drawn = draw_camera(black(), INTRINSICS, cam_from_ego(), [layer_of(boxes, LINES)], NAMES)
    corners = corner_pixels(boxes)
    for u, v in corners:
        assert drawn.pixels[int(v), int(u), 0] > 60, (u, v)
    # Only the antialiased border is outside the corners' hull.
    rows, columns = np.nonzero(drawn.pixels[..., 0])
    assert abs(columns.min() + 0.5 - corners[:, 0].min()) < 1.6
    assert abs(columns.max() + 0.5 - corners[:, 0].max()) < 1.6
    assert abs(rows.min() + 0.5 - corners[:, 1].min()) < 1.6
    assert abs(rows.max() + 0.5 - corners[:, 1].max()) < 1.6


def test_box_behind_the_camera_draws_nothing() -> None:
    boxes = make_boxes([[-9.0, -7.0, 0.9, 4.2, 1.9, 1.5, 0.5, 3.0, 0.0]])
    drawn = draw_camera(black(), INTRINSICS, cam_from_ego(), [layer_of(boxes)], NAMES)
    assert not drawn.pixels.any() and not drawn.texts


def test_box_partly_behind_the_camera_is_drawn_only_on_its_side_of_the_image() -> None:
    # A long box on the camera's left, from 6 m ahead of it to 6 m behind it. If the part behind
    # were projected, it would appear on the right.
    yaw = np.deg2rad(30.0)
    left = np.array([-np.sin(yaw), np.cos(yaw)]) * 3.0
    boxes = make_boxes([[1.5 + left[0], -0.4 + left[1], 1.0, 12.0, 1.0, 1.5, yaw, 0.0, 0.0]])
    drawn = draw_camera(black(), INTRINSICS, cam_from_ego(), [layer_of(boxes)], NAMES)
    columns = np.nonzero(drawn.pixels.any((0, 2)))[0]
    # The edge nearest to the image's centre is 2.5 m left of the optical axis, 6 m ahead.
    assert len(columns) and columns.max() <= 190 - 320 * 2.5 / 6 + 2
    assert columns.min() == 0


def test_front_face_is_tinted_and_the_back_is_not() -> None:
    away, towards = np.deg2rad(30.0), np.deg2rad(210.0)
    shown = []
    for yaw in (away, towards):
        center = np.array([1.5, -0.4]) + 9 * np.array([np.cos(away), np.sin(away)])
        boxes = make_boxes([[*center, 1.6, 4.0, 2.0, 1.6, yaw, 0.0, 0.0]])
        shown.append(draw_camera(black(), INTRINSICS, cam_from_ego(), [layer_of(boxes)], NAMES))
    # Just inside the outer face's upper corner, beyond the farther face's outline.
    far_half, near_half = 320 * 1.0 / 11, 320 * 1.0 / 7
    probe = (110, round(190 - (far_half + near_half) / 2))
    assert not shown[0].pixels[probe].any()
    assert shown[1].pixels[probe].any()


def test_true_boxes_are_outlines_on_the_ground() -> None:
    row = [9.0, 4.6, 1.0, 4.2, 1.9, 1.5, 0.2, 0.0, 0.0]
    flat = [*row[:2], 0.25, *row[3:5], 0.0, *row[6:]]
    # The same outline as that of a box without height on the same ground.
    drawn, expected = (
        draw_camera(black(), INTRINSICS, cam_from_ego(), [layer_of(make_boxes([r]), style)], NAMES)
        for r, style in ((row, TRUE), (flat, BoxStyle(name="flat", color=TRUE.color)))
    )
    np.testing.assert_array_equal(drawn.pixels > 0, expected.pixels > 0)
    assert drawn.pixels.any() and not drawn.texts


@pytest.mark.parametrize("size", [(225, 400), (900, 1600), (120, 64)])
@pytest.mark.parametrize("seed", range(4))
def test_labels_neither_overlap_nor_are_cut(size: tuple[int, int], seed: int) -> None:
    height, width = size
    intrinsics = np.diag((width / 400, height / 225, 1.0)) @ INTRINSICS
    layers = make_layers(random_detections(120, seed), None)
    drawn = draw_camera(
        black(size), intrinsics, cam_from_ego(), layers, NAMES, name="CAM_FRONT_RIGHT"
    )
    assert len(drawn.texts) > (1 if width > 64 else 0)
    assert_texts_are_whole(drawn)


@pytest.mark.parametrize("seed", range(4))
def test_labels_cover_no_box(seed: int) -> None:
    detections = random_detections(25, seed)
    layers = make_layers(detections, None)
    drawn = draw_camera(black(), INTRINSICS, cam_from_ego(), layers, NAMES)
    style = BoxStyle(name="lines", color=(255, 0, 0))
    plain = [replace(layer, style=style) for layer in layers]
    lines = draw_camera(black(), INTRINSICS, cam_from_ego(), plain, NAMES).pixels.any(-1)
    assert drawn.texts
    for text in drawn.texts:
        # A line is antialiased: its border reaches into the next pixel.
        assert not lines[text.top + 1 : text.bottom - 1, text.left + 1 : text.right - 1].any()


def test_labels_go_to_the_best_boxes_first() -> None:
    rows = [[12.0, 6.5, 1.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0]] * 2
    detections = random_detections(2, 0)
    detections = type(detections)(
        make_boxes(rows), torch.tensor([0.31, 0.87]), torch.tensor([0, 1])
    )
    layers = make_layers(detections, None)
    drawn = draw_camera(black(), INTRINSICS, cam_from_ego(), layers, NAMES)
    # Two equal boxes: the higher score gets the place above. A line from the second label to its
    # box would cross the first, so that the second label goes below.
    top = corner_pixels(make_boxes(rows[:1]))[:, 1].min()
    best, second = drawn.texts
    assert top - 3 < best.bottom <= top + 1 and second.top > best.bottom
    color = CLASS_COLORS["pedestrian"]
    region = drawn.pixels[best.top : best.bottom, best.left : best.right].reshape(-1, 3)
    assert (np.abs(region.astype(int) - color).sum(1) < 90).any()


def test_empty_layers_leave_the_image_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    layers = [layer_of(Boxes3D.empty())]
    drawn = draw_camera(image, INTRINSICS, cam_from_ego(), layers, NAMES)
    np.testing.assert_array_equal(drawn.pixels, image)
    assert drawn.pixels is not image


def test_input_image_is_not_changed() -> None:
    image = black()
    boxes = make_boxes([[9.0, 4.6, 1.0, 4.2, 1.9, 1.5, 0.2, 0.0, 0.0]])
    draw_camera(image, INTRINSICS, cam_from_ego(), [layer_of(boxes)], NAMES, name="x")
    assert not image.any()


def test_lost_camera_is_a_dark_tile_with_a_notice() -> None:
    tile = draw_lost_camera((225, 400), "CAM_BACK")
    assert tile.pixels.shape == (225, 400, 3) and len(tile.texts) == 2
    assert_texts_are_whole(tile)
    assert (tile.pixels[-1] == PANEL).all()


def test_label_without_a_class_name_is_refused() -> None:
    boxes = make_boxes([[9.0, 4.6, 1.0, 4.2, 1.9, 1.5, 0.2, 0.0, 0.0]])
    layer = layer_of(boxes)
    with pytest.raises(ValueError, match="label must be an index of the 0 class names"):
        draw_camera(black(), INTRINSICS, cam_from_ego(), [layer], ())


@pytest.mark.oracle("data_render_scene0103")
def test_corners_of_real_boxes_are_where_the_devkit_projects_them(oracle_dir: Path) -> None:
    data_classes = pytest.importorskip("nuscenes.utils.data_classes")
    from nuscenes.utils.geometry_utils import view_points
    from pyquaternion import Quaternion

    tables = read_tables(oracle_dir.parent / "data" / "nuscenes_minival" / "v1.0-mini")
    scene = next(s for s in tables["scene"].values() if s["name"] == "scene-0103")
    token = scene["first_sample_token"]
    annotations = [a for a in tables["sample_annotation"].values() if a["sample_token"] == token]
    # Indices of our corners in the devkit's order (front face, then back face).
    order = [3, 7, 6, 2, 0, 4, 5, 1]
    compared = 0
    for record in tables["sample_data"].values():
        sensor = tables["calibrated_sensor"][record["calibrated_sensor_token"]]
        is_camera = bool(sensor["camera_intrinsic"])
        if record["sample_token"] != token or not record["is_key_frame"] or not is_camera:
            continue
        ego = tables["ego_pose"][record["ego_pose_token"]]
        cam_from_world = as_array(invert_se3(pose_of(ego) @ pose_of(sensor)))
        intrinsics = np.array(sensor["camera_intrinsic"])
        for annotation in annotations:
            box = data_classes.Box(
                annotation["translation"], annotation["size"], Quaternion(annotation["rotation"])
            )
            width, length, height = annotation["size"]
            yaw = box.orientation.yaw_pitch_roll[0]
            row = [*annotation["translation"], length, width, height, yaw, 0.0, 0.0]
            ours = to_camera(layer_of(make_boxes([row])).corners()[0], cam_from_world)
            for frame in (ego, sensor):
                box.translate(-np.array(frame["translation"]))
                box.rotate(Quaternion(frame["rotation"]).inverse)
            theirs = box.corners()[:, order]
            if (theirs[2] > 0.5).all():
                expected = view_points(theirs, intrinsics, normalize=True)[:2].T
                # All in float64. The boxes are 2 km from the world's origin, and a pixel is
                # 0.4 mm wide at half a metre.
                np.testing.assert_allclose(to_pixels(ours, intrinsics), expected, atol=1e-6)
                compared += 1
    assert compared > 20


def read_tables(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    names = ("scene", "sample_annotation", "sample_data", "calibrated_sensor", "ego_pose")
    return {
        name: {row["token"]: row for row in json.loads((folder / f"{name}.json").read_text())}
        for name in names
    }


def pose_of(record: dict[str, list[float]]) -> torch.Tensor:
    rotation = torch.tensor(record["rotation"], dtype=torch.float64)
    return se3_from_parts(rotation, torch.tensor(record["translation"], dtype=torch.float64))


ARROWS = BoxStyle(name="arrows", color=(255, 0, 0), arrows=True)


def arrow_pixels(row: list[float], style: BoxStyle = ARROWS) -> NDArray[np.bool_]:
    """Return the mask (225, 400) of pixels that differ between a moving and a standing box."""
    drawn = [
        draw_camera(
            black(), INTRINSICS, cam_from_ego(), [layer_of(make_boxes([row_]), style)], NAMES
        ).pixels
        for row_ in (row, [*row[:7], 0.0, 0.0])
    ]
    return (drawn[0] != drawn[1]).any(-1)


def pixel_of(point_m: tuple[float, float, float]) -> NDArray[np.float64]:
    """Project a point by the definition: the camera at (1.5, -0.4, 1.6) looks along 30 degrees."""
    view = np.deg2rad(30.0)
    x, y = point_m[0] - 1.5, point_m[1] + 0.4
    depth, right = x * np.cos(view) + y * np.sin(view), x * np.sin(view) - y * np.cos(view)
    down = 1.6 - point_m[2]
    return np.array((320.0 * right / depth + 190.0, 300.0 * down / depth + 110.0))


def test_velocity_arrow_runs_on_the_ground_from_the_front_to_its_later_position() -> None:
    # Heading along y, 4 m long: its front is at y = 9; it drives 5 m/s to the right and back.
    row = [12.0, 7.0, 0.8, 4.0, 1.8, 1.6, np.pi / 2, 3.0, -4.0]
    rows, columns = np.nonzero(arrow_pixels(row))
    ends = np.stack([pixel_of((12.0, 9.0, 0.0)), pixel_of((15.0, 5.0, 0.0))])
    painted = np.stack((columns, rows), -1) + 0.5
    for end in ends:
        assert np.linalg.norm(painted - end, axis=1).min() < 2.0
    (left, right), (top, bottom) = np.sort(ends[:, 0]), np.sort(ends[:, 1])
    margin = 6.0  # half of the head's width, and the line's
    assert columns.min() > left - margin and columns.max() < right + margin
    assert rows.min() > top - margin and rows.max() < bottom + margin
    # The head is at the tip: there the painted pixels extend farther to the sides.
    forward = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    sideways = np.abs((painted - ends[0]) @ (-forward[1], forward[0]))
    widths = [sideways[np.linalg.norm(painted - end, axis=1) < 11].max() for end in ends]
    assert widths[1] > widths[0] + 0.9


def test_standing_boxes_and_styles_without_arrows_have_none() -> None:
    row = [12.0, 7.0, 0.8, 4.0, 1.8, 1.6, 0.3, 3.0, -4.0]
    assert arrow_pixels(row).any()
    assert not arrow_pixels(row, LINES).any()
    assert not arrow_pixels([*row[:7], 0.3, 0.2]).any()
    assert not arrow_pixels([*row[:7], np.nan, np.nan]).any()
    assert not arrow_pixels(row, TRUE).any()


def test_arrow_that_ends_behind_the_camera_is_cut_and_has_no_head() -> None:
    row = [6.0, 2.0, 0.8, 4.0, 1.8, 1.6, np.deg2rad(30.0), -30.0, -30.0]
    changed = arrow_pixels(row)
    assert changed.any()
    assert changed.sum() < 1500  # a line a few pixels wide; nothing mirrored into the image
