"""Frames and clips: required and refused arguments, and the composition of poses."""

import numpy as np
import pytest
import torch

from bevstack.geometry import invert_se3
from bevstack.types import CameraAnnotations, Clip, Frame
from tests.geometry.test_se3 import random_poses

INTRINSICS = np.array([[300.0, 0, 80], [0, 310, 40], [0, 0, 1]])


def make_frame(cameras=2, **changes):
    images = [np.zeros((90, 160 + n, 3), np.uint8) for n in range(cameras)]
    arguments = {
        "images": images,
        "intrinsics": np.stack([INTRINSICS] * cameras),
        "ego_from_cam": random_poses(cameras),
    }
    return Frame(**(arguments | changes))


def test_a_frame_needs_only_images_and_calibration():
    frame = make_frame(1)
    assert frame.num_cameras == 1
    assert frame.camera_mask.tolist() == [True]
    torch.testing.assert_close(frame.bev_from_cam(), frame.ego_from_cam)
    assert frame.world_from_bev() is None
    assert frame.rig().image_size.tolist() == [[90, 160]]


def test_cameras_may_differ_in_size_and_be_lost():
    images = [np.zeros((90, 160, 3), np.uint8), None]
    frame = make_frame(2, images=images)
    assert frame.camera_mask.tolist() == [True, False]
    assert frame.rig().image_size.tolist() == [[90, 160], [1, 1]]


def test_motion_between_camera_and_reference_time_is_compensated():
    world_from_ego = random_poses(1, seed=5)[0]
    at_camera = random_poses(2, seed=6)
    bev_from_ego = random_poses(1, seed=7)[0]
    frame = make_frame(
        world_from_ego=world_from_ego,
        world_from_ego_at_camera=at_camera,
        bev_from_ego=bev_from_ego,
    )
    for n in range(2):
        world_from_cam = at_camera[n] @ frame.ego_from_cam[n]
        want = bev_from_ego @ invert_se3(world_from_ego) @ world_from_cam
        torch.testing.assert_close(frame.bev_from_cam()[n], want)
    torch.testing.assert_close(frame.world_from_bev() @ bev_from_ego, world_from_ego)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "images must hold at least one camera"),
        ({"images": [np.zeros((9, 9), np.uint8)] * 2}, r"images\[0\] must be uint8 RGB"),
        ({"images": [np.zeros((9, 9, 3))] * 2}, r"images\[0\] must be uint8 RGB"),
        ({"intrinsics": np.zeros((2, 3, 3))}, "intrinsics must be an invertible pinhole"),
        ({"ego_from_cam": np.full((2, 4, 4), np.nan)}, "ego_from_cam must be finite"),
        ({"ego_from_cam": np.zeros((2, 4, 4))}, "ego_from_cam must be a rigid motion"),
        ({"ego_from_cam": np.eye(4)[None]}, r"ego_from_cam must have shape \(2, 4, 4\)"),
        (
            {"camera_names": ("CAM_FRONT",)},
            "camera_names must hold one entry for each of the 2 cameras, or none; got 1",
        ),
        ({"world_from_ego_at_camera": np.stack([np.eye(4)] * 2)}, "world_from_ego must be given"),
        (
            {"camera_annotations": (CameraAnnotations.empty(),)},
            r"camera_annotations must hold one entry a camera \(2\); got 1",
        ),
        (
            {"images": [np.zeros((9, 9, 3), np.uint8), None], "camera_mask": [True, True]},
            r"images\[1\] must be an image where camera_mask is true",
        ),
    ],
)
def test_an_error_names_the_bad_argument(changes, message):
    with pytest.raises(ValueError, match=message):
        make_frame(2, **changes)


def test_clip_needs_its_current_frame_and_ascending_offsets():
    frame = make_frame()
    assert Clip((None, frame), (-1, 0)).current is frame
    with pytest.raises(ValueError, match="frame at offset 0 must exist"):
        Clip((frame, None), (-1, 0))
    with pytest.raises(ValueError, match="offsets must ascend and hold 0"):
        Clip((frame, frame), (0, -1))
    with pytest.raises(ValueError, match=r"frames must hold one entry an offset \(2\); got 1"):
        Clip((frame,), (-1, 0))


def test_frames_of_a_clip_are_of_one_scene():
    here, there = make_frame(scene_token="a"), make_frame(scene_token="b")
    with pytest.raises(
        ValueError, match="must be of one scene, 'a'; got a frame of 'b' at offset -1"
    ):
        Clip((there, here), (-1, 0))
    assert Clip((make_frame(), here), (-1, 0)).current is here  # the first has no scene token
