"""Rig files: the documented example loads, and errors name the mistake."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.geometry.rig_plausibility import ImplausibleRigWarning
from bevstack.runtime.rig import frame_from_rig, read_rig
from bevstack.times import StaleCameraWarning

EXAMPLE = Path(__file__).parents[2] / "docs" / "rig_example.json"


def small_rig(**changes):
    camera = {
        "name": "front",
        "width": 40,
        "height": 30,
        "intrinsics": [[50.0, 0, 20], [0, 50.0, 15], [0, 0, 1]],
        "ego_from_cam": {"rotation_wxyz": [0.5, -0.5, 0.5, -0.5], "translation_m": [1, 0, 1.5]},
    }
    rear = camera | {
        "name": "rear",
        "width": 36,
        "ego_from_cam": [[0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]],
    }
    return {"format": "bevstack-rig-1", "cameras": [camera | changes, rear]}


def write(tmp_path, rig):
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    return tmp_path / "rig.json"


def write_images(tmp_path):
    for name, width, suffix in (("front", 40, "jpg"), ("rear", 36, "png")):
        image = np.full((30, width, 3), 90, np.uint8)
        image[:10] = (250, 0, 0)  # BGR: blue above
        assert cv2.imwrite(str(tmp_path / f"{name}.{suffix}"), image)


def test_the_documented_example_has_six_cameras_in_all_directions():
    rig = read_rig(EXAMPLE)
    axes = [camera.ego_from_cam[:3, 2].numpy() for camera in rig.cameras]
    np.testing.assert_allclose(axes[0], [1, 0, 0], atol=0.01)
    np.testing.assert_allclose(axes[3], [-1, 0, 0], atol=0.01)
    assert axes[2][1] > 0.7  # the front left camera points to +y
    assert all(camera.ego_from_cam[2, 1] < -0.99 for camera in rig.cameras)  # image down is -z
    assert rig.cameras[3].lens is not None


def test_images_of_different_sizes_become_a_frame(tmp_path):
    write_images(tmp_path)
    frame = frame_from_rig(read_rig(write(tmp_path, small_rig())), tmp_path)
    assert [image.shape for image in frame.images] == [(30, 40, 3), (30, 36, 3)]
    assert frame.images[1][0, 0].tolist() == [0, 0, 250]  # RGB
    assert frame.camera_names == ("front", "rear")
    assert frame.world_from_ego is None


def timed_frame(tmp_path, times, **fields):
    """Return the frame of a rig file that gives the cameras' times."""
    rig = small_rig() | fields
    for camera, time in zip(rig["cameras"], times, strict=True):
        camera["timestamp_us"] = time
    images = {"front": np.zeros((30, 40, 3), np.uint8), "rear": np.zeros((30, 36, 3), np.uint8)}
    return frame_from_rig(read_rig(write(tmp_path, rig)), images)


def test_a_camera_whose_image_is_old_counts_as_lost(tmp_path):
    now = 1_600_000_000_000_000
    with pytest.warns(StaleCameraWarning, match="^rear counts as lost: its image is 5 s older"):
        frame = timed_frame(tmp_path, (now, now - 5_000_000), timestamp_us=now)
    assert frame.camera_mask.tolist() == [True, False]
    with pytest.warns(StaleCameraWarning, match="^rear counts as lost"):  # than the newest image
        assert timed_frame(tmp_path, (now, now - 5_000_000)).stale_cameras() == ("rear",)


def test_times_of_two_units_in_a_rig_are_refused(tmp_path):
    now = 1_600_000_000_000_000
    with pytest.raises(ValueError, match=r"of rear must both be in .* milliseconds"):
        timed_frame(tmp_path, (now, now // 1000), timestamp_us=now)
    with pytest.raises(ValueError, match="nanoseconds since 1970"):
        timed_frame(tmp_path, (None, None), timestamp_us=now * 1000)


def test_a_camera_without_a_time_has_that_of_its_frame(tmp_path):
    frame = timed_frame(tmp_path, (None, None))
    for time in (0, 500_000, 9_000_000, 1_600_000_000_000_000):
        assert replace(frame, timestamp_us=time).camera_mask.all()


def test_arrays_may_be_given_instead_of_files(tmp_path):
    rig = read_rig(write(tmp_path, small_rig()))
    images = {"front": np.zeros((30, 40, 3), np.uint8), "rear": np.zeros((30, 36, 3), np.uint8)}
    assert frame_from_rig(rig, images).num_cameras == 2
    with pytest.raises(ValueError, match="images must hold camera 'rear'"):
        frame_from_rig(rig, {"front": images["front"]})


def test_distortion_is_removed_on_load(tmp_path):
    write_images(tmp_path)
    distorted = small_rig(distortion={"model": "equidistant", "coefficients": [0.1, 0, 0, 0]})
    frame = frame_from_rig(read_rig(write(tmp_path, distorted)), tmp_path)
    assert frame.intrinsics[0, 0, 0] != 50.0
    assert frame.intrinsics[1, 0, 0] == 50.0


def test_a_lost_camera_is_named_by_the_caller_or_the_file(tmp_path):
    write_images(tmp_path)
    (tmp_path / "front.jpg").unlink()
    rig = read_rig(write(tmp_path, small_rig()))
    with pytest.raises(FileNotFoundError, match=r"image of camera front .* --lost front"):
        frame_from_rig(rig, tmp_path)
    assert frame_from_rig(rig, tmp_path, lost=["front"]).camera_mask.tolist() == [False, True]
    marked = read_rig(write(tmp_path, small_rig(lost=True)))
    assert frame_from_rig(marked, tmp_path).camera_mask.tolist() == [False, True]
    with pytest.raises(ValueError, match="lost camera must be one of front, rear; got 'side'"):
        frame_from_rig(rig, tmp_path, lost=["side"])
    with pytest.raises(ValueError, match="at least one camera must have an image"):
        frame_from_rig(marked, tmp_path, lost=["rear"])


def test_an_image_of_another_size_is_refused(tmp_path):
    write_images(tmp_path)
    rig = read_rig(write(tmp_path, small_rig(width=44)))
    with pytest.raises(ValueError, match=r"front.jpg must be 44x30 pixels.*got 40x30"):
        frame_from_rig(rig, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intrinsic": 1}, r"no field 'intrinsic'; did you mean 'intrinsics'"),
        (
            {"intrinsics": [[0.0, 0, 1], [0, 0, 1], [0, 0, 1]]},
            "camera 'front': intrinsics must be an invertible pinhole",
        ),
        (
            {"intrinsics": [[1.0, 0], [0, 1]]},
            r"'front': intrinsics must be 3 lists of 3 numbers; got 2",
        ),
        ({"intrinsics": "x"}, "'front': intrinsics must be 3 lists of 3 numbers; got 'x'"),
        (
            {"intrinsics": [["50", 0, 20], [0, 50, 15], [0, 0, 1]]},
            r"camera 'front': intrinsics\[0\]\[0\] must be a number; got '50'",
        ),
        (
            {"intrinsics": [[50, 0, True], [0, 50, 15], [0, 0, 1]]},
            r"camera 'front': intrinsics\[0\]\[2\] must be a number; got True",
        ),
        (
            {"intrinsics": [[10**400, 0, 20], [0, 50, 15], [0, 0, 1]]},
            r"camera 'front': intrinsics\[0\]\[0\] must be finite; got 1000",
        ),
        (
            {"ego_from_cam": [[float("nan")] * 4] * 4},
            r"camera 'front': ego_from_cam\[0\]\[0\] must be finite; got nan",
        ),
        (
            {"ego_from_cam": [[0, 0, 1, 1], [1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]]},
            "'front': ego_from_cam must be right-handed .*; got a left-handed, mirrored one",
        ),
        (
            {"ego_from_cam": [[0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 1, 1]]},
            r"'front': ego_from_cam must be a rigid motion .*; got the last row \[0.0, 0.0, 1.0",
        ),
        (
            {"ego_from_cam": {"rotation_wxyz": [1, 0, 0], "translation_m": [0, 0, 0]}},
            "'front': ego_from_cam.rotation_wxyz must be 4 numbers; got 3",
        ),
        (
            {"ego_from_cam": {"rotation_wxyz": [1, 0, 0, 0], "translation_m": ["0", 0, 0]}},
            r"'front': ego_from_cam.translation_m\[0\] must be a number; got '0'",
        ),
        ({"lost": "false"}, "camera 'front': lost must be true or false; got 'false'"),
        ({"lost": 0}, "camera 'front': lost must be true or false; got 0"),
        ({"lost": None}, "camera 'front': lost must be true or false; got None"),
        ({"image": 5}, "camera 'front': image must be a text; got 5"),
        ({"image": ["a.jpg"]}, r"camera 'front': image must be a text; got \['a.jpg'\]"),
        ({"image": ""}, "camera 'front': image must be 1 to 1024 printable characters; got ''"),
        ({"image": "a\0.jpg"}, "camera 'front': image must be 1 to 1024 printable characters"),
        ({"name": 7}, r"name of cameras\[0\] must be a text; got 7"),
        ({"name": "a\nb"}, r"name of cameras\[0\] must be 1 to 1024 printable characters"),
        ({"name": "n" * 5000}, r"name of cameras\[0\] must be 1 to 1024 printable characters"),
        ({"timestamp_us": "12"}, "camera 'front': timestamp_us must be a whole number; got '12'"),
        ({"timestamp_us": 1.5}, "camera 'front': timestamp_us must be a whole number; got 1.5"),
        ({"timestamp_us": -5}, "camera 'front': timestamp_us must be from 0 to .*; got -5"),
        ({"distortion": 3}, "camera 'front': distortion must be a JSON object; got 3"),
        (
            {"distortion": {"model": ["plumb_bob"], "coefficients": [0, 0, 0, 0]}},
            "camera 'front': lens model must be one of",
        ),
        (
            {"distortion": {"model": "plumb_bob", "coefficients": "0000"}},
            "camera 'front': coefficients must be a list; got '0000'",
        ),
        (
            {"distortion": {"model": "plumb_bob", "coefficients": [0, 0, "0", 0]}},
            r"camera 'front': coefficients\[2\] must be a number; got '0'",
        ),
        ({"width": True}, "width and height must be positive pixel counts"),
        ({"width": 40.0}, "width and height must be positive pixel counts"),
        ({"height": 10**12}, "width and height must be positive pixel counts"),
        (
            {"ego_from_cam": {"rotation_wxyz": [0, 0, 0, 0], "translation_m": [0, 0, 0]}},
            "camera 'front': ego_from_cam: quaternion must be finite and of non-zero length",
        ),
        (
            {"distortion": {"model": "kb9", "coefficients": []}},
            "camera 'front': lens model must be one of plumb_bob.*got 'kb9'",
        ),
        ({"width": 0}, "width and height must be positive"),
        ({"name": "rear"}, "camera names must be distinct"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_rig(write(tmp_path, small_rig(**changes)))


def test_values_of_the_whole_file_are_checked(tmp_path):
    for changes, message in (
        ({"timestamp_us": 0.5}, "timestamp_us must be a whole number; got 0.5"),
        ({"timestamp_us": "0"}, "timestamp_us must be a whole number; got '0'"),
        ({"timestamp_us": True}, "timestamp_us must be a whole number; got True"),
        ({"world_from_ego": [1, 2]}, "world_from_ego must be 4 lists of 4 numbers; got 2"),
        ({"format": 1}, "format must be 'bevstack-rig-1'; got 1"),
        ({"cameras": {"front": {}}}, "cameras must be a list of at least one"),
        ({"cameras": ["front"]}, r"cameras\[0\] must be a JSON object; got 'front'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_rig(write(tmp_path, small_rig() | changes))
    nothing = {"timestamp_us": None, "world_from_ego": None}
    assert read_rig(write(tmp_path, small_rig() | nothing)).timestamp_us == 0


def test_a_right_rig_is_silent_and_a_wrong_one_is_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_rig(EXAMPLE)
        read_rig(write(tmp_path, small_rig()))
    values = json.loads(EXAMPLE.read_text())
    for camera in values["cameras"]:
        w, x, y, z = camera["ego_from_cam"]["rotation_wxyz"]
        camera["ego_from_cam"]["rotation_wxyz"] = [x, y, z, w]
    with pytest.warns(ImplausibleRigWarning, match=r"'CAM_BACK' must.*order x, y, z, w instead"):
        read_rig(write(tmp_path, values))
    exchanged = small_rig(name="rear_camera")  # it looks ahead
    with pytest.warns(ImplausibleRigWarning, match="'rear_camera' must look to about 180 degrees"):
        read_rig(write(tmp_path, exchanged))
    euler = {"rotation_wxyz": [0, 0, 90, 0], "translation_m": [1, 0, 1.5]}
    with pytest.warns(ImplausibleRigWarning, match="must have a quaternion of length 1; got 90"):
        read_rig(write(tmp_path, small_rig(ego_from_cam=euler, name="a")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[" * 100_000, "rig file must be JSON; got too many nested lists or objects in"),
        ('{"format": ' + "9" * 5000 + "}", "rig file must be JSON; got a whole number of too many"),
        ('{"format": 1, "format": 1}', "rig file must be JSON; got the key 'format' twice in one"),
        ("[]", "must be a JSON object"),
        ('{"format": "x", "cameras": []}', "format must be 'bevstack-rig-1'"),
        ('{"format": "bevstack-rig-1", "cameras": []}', "cameras must be a list of at least one"),
        ('{"format": "bevstack-rig-1", "cameras": [{}]}', "must have the field 'name'"),
    ],
)
def test_files_of_another_format_are_refused(tmp_path, text, message):
    (tmp_path / "rig.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rig(tmp_path / "rig.json")
    with pytest.raises(FileNotFoundError, match="rig file must exist"):
        read_rig(tmp_path / "other.json")
