"""Samples in mmdetection3d's form become frames; boxes keep corners, heading and velocity."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bevstack.geometry import invert_se3, nominal_bev_from_ego, transform_points
from bevstack.interop.mmdet3d_samples import (
    CLASSES,
    annotations_from_lidar,
    boxes_from_lidar,
    boxes_to_lidar,
    camera_boxes,
    frame_from_sample,
    lidar_from_bev,
)
from bevstack.types import Annotations, Boxes3D
from bevstack.vocabulary import CAMERA_CHANNELS, DETECTION_CLASSES
from tests.models.small_models import make_annotations, ring_rig

SIZE = (36, 64)  # of the images, which are padded to (40, 72)


def sample(cameras: int = 3, **changes: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return images and meta information of a ring of cameras; a change of None leaves one out."""
    draw = torch.Generator().manual_seed(3)
    images = torch.zeros(cameras, 3, 40, 72)
    images[:, :, : SIZE[0], : SIZE[1]] = torch.randint(0, 256, (cameras, 3, *SIZE), generator=draw)
    rig = ring_rig(1, cameras, SIZE)[0, 0]
    lidar2ego = np.eye(4)
    lidar2ego[:2, :2] = [[0.01, 1.0], [-1.0, 0.01]] / np.hypot(0.01, 1.0)
    lidar2ego[:3, 3] = (0.9, 0.1, 1.8)
    meta = {
        "img_shape": [SIZE] * cameras,
        "cam2img": [k.tolist() for k in rig.intrinsics],
        "lidar2cam": [m.numpy() for m in invert_se3(rig.bev_from_cam)],
        "lidar2ego": lidar2ego,
        "sample_idx": 7,
        "pcd_rotation_angle": 0.0,
        "pcd_trans": np.zeros(3),
    }
    return images, {k: v for k, v in {**meta, **changes}.items() if v is not None}


def projections(meta: dict[str, Any]) -> list[np.ndarray]:
    """Return cam2img @ lidar2cam as pipelines compute it, (4, 4)."""
    found = []
    for intrinsics, motion in zip(meta["cam2img"], meta["lidar2cam"], strict=True):
        whole = np.eye(4)
        whole[:3, :3] = intrinsics
        found.append(whole @ motion)
    return found


def test_images_lose_their_padding_and_stay_as_they_are() -> None:
    images, meta = sample()
    frame = frame_from_sample(images + 0.3, meta, grid_frame="lidar")
    assert frame.num_cameras == 3 and frame.sample_token == "7"
    for image, wanted in zip(frame.images, images, strict=True):
        assert image is not None and image.dtype == np.uint8 and image.shape == (*SIZE, 3)
        np.testing.assert_array_equal(image, wanted[:, : SIZE[0], : SIZE[1]].permute(1, 2, 0))
    one_size = frame_from_sample(images, {**meta, "img_shape": SIZE}, grid_frame="lidar")
    assert [image.shape for image in one_size.images if image is not None] == [(*SIZE, 3)] * 3


@pytest.mark.parametrize("grid_frame", ["lidar", "ego"])
@pytest.mark.parametrize("form", ["cam2img", "lidar2img"])
@pytest.mark.parametrize("place", ["given", "nominal"])
def test_a_point_falls_on_the_pixel_that_the_sample_gives_it(
    grid_frame: str, form: str, place: str
) -> None:
    images, meta = sample()
    wanted = torch.from_numpy(np.stack(projections(meta))[:, :3])
    if form == "lidar2img":
        given = [3.0 * matrix for matrix in projections(meta)]  # the scale has no meaning
        meta = {**meta, "lidar2img": given, "cam2img": None, "lidar2cam": None}
        meta = {key: value for key, value in meta.items() if value is not None}
    if place == "nominal":
        del meta["lidar2ego"]
    frame = frame_from_sample(images, meta, grid_frame=grid_frame)
    rig = frame.rig()
    points = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = points * torch.tensor([20.0, 20.0, 1.0], dtype=torch.float64)  # in the lidar's frame
    bev_from_lidar = invert_se3(lidar_from_bev(frame, meta))
    in_bev = transform_points(bev_from_lidar, points)
    for camera in range(3):
        seen = (
            transform_points(invert_se3(rig.bev_from_cam[camera]), in_bev)
            @ rig.intrinsics[camera].T
        )
        expected = points @ wanted[camera, :, :3].T + wanted[camera, :, 3]
        torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-9)
    nominal = nominal_bev_from_ego("lidar")
    if grid_frame == "lidar":
        torch.testing.assert_close(bev_from_lidar, torch.eye(4, dtype=torch.float64))
    elif place == "nominal":
        torch.testing.assert_close(bev_from_lidar, invert_se3(nominal))
    else:
        torch.testing.assert_close(bev_from_lidar, torch.from_numpy(meta["lidar2ego"]))


def test_cameras_are_named_by_their_paths() -> None:
    images, meta = sample(6)
    paths = [f"data/samples/{name}/{row}.jpg" for row, name in enumerate(CAMERA_CHANNELS[::-1])]
    named = frame_from_sample(images, {**meta, "img_path": paths}, grid_frame="lidar")
    assert named.camera_names == CAMERA_CHANNELS[::-1]
    for unclear in ([*paths[:5], "a.jpg"], [*paths[:5], paths[0]], paths[:5], "a.jpg"):
        frame = frame_from_sample(images, {**meta, "img_path": unclear}, grid_frame="lidar")
        assert frame.camera_names == ()


def test_boxes_keep_corners_heading_and_velocity() -> None:
    boxes = make_annotations(20, 3).boxes
    rows = boxes_to_lidar(boxes)
    torch.testing.assert_close(rows[:, 2], boxes.corners()[:, :4, 2].mean(1))  # the bottom face
    assert torch.equal(rows[:, 3:6], boxes.size) and torch.equal(rows[:, 6], boxes.yaw)
    again = boxes_from_lidar(rows)
    torch.testing.assert_close(again.corners(), boxes.corners(), rtol=0, atol=1e-5)
    assert torch.equal(again.velocity, boxes.velocity)
    assert bool(boxes_from_lidar(rows[:, :7]).velocity.isnan().all())
    assert boxes_to_lidar(Boxes3D.empty()).shape == (0, 9)
    with pytest.raises(ValueError, match="boxes must have 7 or 9 columns; got 8"):
        boxes_from_lidar(rows[:, :8])


def test_true_boxes_take_our_labels_and_leave_out_other_classes() -> None:
    rows = boxes_to_lidar(make_annotations(4, 3).boxes)
    ours = torch.tensor(
        [DETECTION_CLASSES.index(name) if name != "bus" else -1 for name in CLASSES]
    )
    labels = torch.tensor([CLASSES.index("truck"), -1, CLASSES.index("bus"), 0])
    turned = torch.tensor(
        [[0.0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64
    )
    found = annotations_from_lidar(rows, labels, ours, turned)
    assert [DETECTION_CLASSES[label] for label in found.labels.tolist()] == ["truck", "car"]
    assert found.num_points.tolist() == [-1, -1]
    wanted = boxes_from_lidar(rows[[0, 3]]).transformed(turned)
    torch.testing.assert_close(found.boxes.center, wanted.center)
    torch.testing.assert_close(found.boxes.velocity, wanted.velocity)
    torch.testing.assert_close(found.boxes.yaw, wanted.yaw)


def test_a_camera_sees_the_boxes_before_it() -> None:
    images, meta = sample()
    frame = frame_from_sample(images, meta, grid_frame="lidar")
    axis = frame.bev_from_cam()[1]
    ahead = transform_points(axis, torch.tensor([[0.0, 0.0, 9.0]], dtype=torch.float64))
    behind = transform_points(axis, torch.tensor([[0.0, 0.0, -9.0]], dtype=torch.float64))
    yaw = torch.tensor([0.4, -2.0])
    boxes = Boxes3D(
        torch.cat((ahead, behind)).float(),
        torch.tensor([[2.0, 1.0, 1.5], [4.0, 2.0, 1.5]]),
        yaw,
        torch.tensor([[3.0, 4.0], [0.0, math.nan]]),
    )
    annotations = Annotations(boxes, torch.tensor([2, 3]), torch.tensor([-1, -1]))
    seen = camera_boxes(frame, annotations)
    assert len(seen) == 3 and seen[1].labels.tolist() == [2]
    torch.testing.assert_close(seen[1].center_m, torch.tensor([[0.0, 0.0, 9.0]]), atol=1e-5, rtol=0)
    assert seen[1].speed_mps.tolist() == [5.0] and seen[1].attributes.tolist() == [-1]
    left, top, right, bottom = seen[1].boxes_px[0].tolist()
    assert left < SIZE[1] / 2 < right and top < SIZE[0] / 2 < bottom
    corners = transform_points(invert_se3(axis), boxes.corners()[0].double())
    pixels = corners @ frame.intrinsics[1].T
    pixels = pixels[:, :2] / pixels[:, 2:]
    assert left == pytest.approx(float(pixels[:, 0].min()), abs=1e-3)
    none = replace(frame, annotations=None)
    assert all(len(boxes) == 0 for boxes in camera_boxes(none, Annotations.empty()))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"cam2img": None}, "must have lidar2img, or cam2img and lidar2cam; got no cam2img"),
        ({"lidar2cam": None}, "got no lidar2cam"),
        ({"lidar2cam": [np.eye(4)]}, r"one matrix a camera \(3\); got 1"),
        ({"cam2img": [np.eye(2)] * 3}, "matrices of 3 or 4 rows"),
        ({"lidar2img": [np.diag([-1.0, 1, 1, 1])] * 3}, "without mirroring; .* of camera 0"),
        ({"lidar2img": [np.zeros((4, 4))] * 3}, "must project"),
        ({"img_shape": (99, 99)}, r"img_shape must be sizes up to \(40, 72\)"),
        ({"pcd_horizontal_flip": True}, "got pcd_horizontal_flip = True"),
        ({"pcd_rotation_angle": 0.2}, "must not be augmented"),
        ({"pcd_scale_factor": 1.1}, "got pcd_scale_factor = 1.1"),
        ({"flip": [False, True, False]}, "got flip"),
    ],
)
def test_unusable_samples_are_named(changes: dict[str, Any], fault: str) -> None:
    images, meta = sample(**changes)
    with pytest.raises(ValueError, match=fault):
        frame_from_sample(images, meta, grid_frame="lidar")
