"""Cameras and pose of a frame, without its images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bevstack.types import Frame
from bevstack.types.rig_view import RigView


def frame(**changes: object) -> Frame:
    values: dict[str, object] = {
        "images": [np.zeros((90, 160, 3), np.uint8), None],
        "intrinsics": torch.tensor([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]]).expand(2, 3, 3),
        "ego_from_cam": torch.tensor(
            [[0.0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]
        ).expand(2, 4, 4),
        "camera_names": ("CAM_FRONT", ""),
        "timestamp_us": 7,
        "world_from_ego": torch.eye(4),
    }
    return Frame(**{**values, **changes})  # type: ignore[arg-type]


def test_a_view_takes_cameras_sizes_and_mask() -> None:
    view = RigView.from_frame(frame())
    assert view.camera_names == ("CAM_FRONT", "camera 1")
    assert view.image_sizes[0].tolist() == [90, 160]
    assert view.camera_mask.tolist() == [True, False]
    pixels, depth = view.project(np.array([[11.0, 1.0, 2.5]]))
    # 10 m ahead of the camera, 1 m left, 1 m up: 10 px each at a focal length of 100 px.
    np.testing.assert_allclose(pixels[0, 0], (70, 35))
    assert depth[0, 0] == pytest.approx(10)
    assert view.front_cameras(0.5).all()


def test_a_view_follows_the_motion_between_image_and_frame() -> None:
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[0, 0, 3] = -2.0  # the first image was taken 2 m earlier
    view = RigView.from_frame(frame(world_from_ego_at_camera=poses))
    np.testing.assert_allclose(view.ego_from_cam[:, 0, 3], (-1.0, 1.0))


def test_a_frame_without_a_pose_is_refused() -> None:
    with pytest.raises(ValueError, match="world_from_ego must be given for every frame"):
        RigView.from_frame(frame(world_from_ego=None))
