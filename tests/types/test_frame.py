"""Frames and clips: required and refused arguments, and the composition of poses."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.geometry import invert_se3
from bevstack.times import StaleCameraWarning
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


NOW = 1_600_000_000_000_000


@pytest.mark.parametrize("time", [1.6e15, None, "1600000000000000", True, 2**63, [5], np.nan])
def test_a_time_that_is_no_whole_number_is_refused(time):
    with pytest.raises(ValueError, match=r"^timestamp_us must be a whole number of microseconds"):
        make_frame(timestamp_us=time)
    with pytest.raises(ValueError, match=r"^camera_timestamp_us\[1\] must be a whole number"):
        make_frame(camera_timestamp_us=(NOW, time))


def test_whole_numbers_of_any_library_are_times():
    frame = make_frame(
        timestamp_us=np.int64(NOW), camera_timestamp_us=np.array([NOW, NOW + 5], dtype=np.int64)
    )
    assert (frame.timestamp_us, frame.camera_timestamp_us) == (NOW, (NOW, NOW + 5))
    assert type(frame.timestamp_us) is type(frame.camera_timestamp_us[0]) is int
    assert make_frame(timestamp_us=torch.tensor(7)).timestamp_us == 7


def test_nanoseconds_and_times_of_two_units_are_refused():
    with pytest.raises(ValueError, match="nanoseconds since 1970: divide the times by 1000"):
        make_frame(timestamp_us=NOW * 1000)
    for time, unit in ((NOW // 1000, "milliseconds"), (NOW // 10**6, "seconds")):
        for frame_us, camera_us in ((NOW, time), (time, NOW)):
            with pytest.raises(ValueError, match=f"CAM_A must both be .* in {unit}: multiply"):
                make_frame(
                    timestamp_us=frame_us,
                    camera_timestamp_us=(camera_us, frame_us),
                    camera_names=("CAM_A", ""),
                )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "CAM_FRONT.jpg"}, "images must be a list"),
        ({"images": None}, "images must be a list .*; got NoneType"),
        ({"images": ["front.jpg", None]}, r"images\[0\] must be uint8 RGB .*; got str"),
        ({"images": [np.zeros((0, 9, 3), np.uint8)] * 2}, r"images\[0\] must be uint8 RGB"),
        ({"images": [torch.zeros(9, 9, 3, dtype=torch.uint8)] * 2}, "give a numpy array"),
        ({"intrinsics": None}, r"intrinsics must be numbers of shape \(2, 3, 3\); got None"),
        ({"intrinsics": "K"}, "intrinsics must be numbers .*; got str 'K'"),
        ({"ego_from_cam": [[1.0], [1.0, 2.0]]}, "ego_from_cam must be numbers of shape"),
        ({"ego_from_cam": np.eye(4, dtype=complex)}, "ego_from_cam must be numbers of shape"),
        ({"world_from_ego": np.full((4, 4), np.nan)}, "world_from_ego must be finite"),
        ({"world_from_ego": {"x": 1}}, "world_from_ego must be numbers of shape"),
        ({"bev_from_ego": np.full((4, 4), np.inf)}, "bev_from_ego must be finite"),
        ({"camera_mask": ["true", "false"]}, "camera_mask must hold a boolean"),
        ({"camera_mask": [0.5, 1.0]}, "camera_mask must hold a boolean"),
        ({"camera_mask": [2, 1]}, "camera_mask must hold a boolean"),
        ({"camera_mask": [True]}, r"camera_mask must have shape \(2\)"),
        ({"camera_names": "AB"}, "camera_names must be a list of texts; got 'AB'"),
        ({"camera_names": ("A", 5)}, r"camera_names\[1\] must be a text; got 5"),
        ({"camera_timestamp_us": "AB"}, "camera_timestamp_us must be a list"),
        ({"camera_timestamp_us": 5}, "camera_timestamp_us must be a list"),
        ({"sample_token": None}, "sample_token must be a text; got None"),
        ({"scene_token": 5}, "scene_token must be a text; got 5"),
        ({"annotations": []}, "annotations must be Annotations or None; got list"),
        ({"max_camera_age_s": "1"}, "max_camera_age_s must be a positive number"),
        ({"max_camera_age_s": float("nan")}, "max_camera_age_s must be a positive number"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_frame(2, **changes)


def test_a_camera_beyond_the_limit_counts_as_lost_and_is_named():
    times = {"timestamp_us": NOW, "camera_names": ("CAM_FRONT", "CAM_BACK")}
    for camera_us, words in ((NOW - 5_000_000, "5 s older"), (NOW + 600_000, "0.6 s newer")):
        with pytest.warns(StaleCameraWarning, match=f"^CAM_BACK counts as lost: .* {words} than"):
            frame = make_frame(camera_timestamp_us=(NOW - 50_000, camera_us), **times)
        assert frame.camera_mask.tolist() == [True, False]
        assert frame.stale_cameras() == ("CAM_BACK",)
        assert frame.camera_ages_s() == pytest.approx([0.05, (NOW - camera_us) * 1e-6])


def test_a_stale_camera_is_reported_once_and_nothing_else_is():
    old = {"timestamp_us": NOW, "camera_timestamp_us": (NOW - 900_000, NOW)}
    with pytest.warns(StaleCameraWarning, match=r"^camera 0 counts .* 0\.9 s older"):
        frame = make_frame(**old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = replace(frame, sample_token="again")  # a copy of the frame
        assert again.stale_cameras() == ("camera 0",)
        assert make_frame(**old, max_camera_age_s=1.0).camera_mask.all()
        # at the limit, without times, and relative to the newest image
        for times in ((NOW - 500_000, NOW + 500_000), (0, NOW), ()):
            assert make_frame(timestamp_us=NOW, camera_timestamp_us=times).camera_mask.all()
        assert make_frame(camera_timestamp_us=(NOW, NOW - 400_000)).camera_mask.all()
    with pytest.warns(StaleCameraWarning, match="camera 1"):
        assert not make_frame(camera_timestamp_us=(NOW, NOW - 700_000)).camera_mask.all()


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
