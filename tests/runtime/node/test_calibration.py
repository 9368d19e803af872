"""Calibrations from camera_info: raw and rectified images, lenses, binning, regions, faults."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bevstack.geometry.lenses import Lens
from bevstack.runtime.node.calibration import calibration_from_info
from tests.runtime.node.inputs import SIZE, info, picture

D = np.array([-0.2, 0.05, 0.001, -0.002, 0.01])


def test_a_raw_image_without_a_lens_is_used_as_it_is() -> None:
    found = calibration_from_info(info("CAM_FRONT"), rectified=False)
    image = picture()
    assert found.rectify(image) is image
    assert np.array_equal(found.intrinsics.numpy(), info("CAM_FRONT").k)
    with pytest.raises(ValueError, match="image must be 40x24 as in camera_info; got 40x20"):
        found.rectify(image[:20])


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant", "rational_polynomial"])
def test_a_lens_is_removed_as_when_images_are_loaded(model: str) -> None:
    count = {"plumb_bob": 5, "equidistant": 4, "rational_polynomial": 8}[model]
    coefficients = np.resize(0.1 * D, count)
    message = info("CAM_FRONT", distortion_model=model, d=coefficients)
    found = calibration_from_info(message, rectified=False)
    lens = Lens(model, tuple(coefficients.tolist()))
    image, intrinsics = lens.undistort(picture(), torch.from_numpy(message.k), SIZE)
    assert image is not None
    assert np.array_equal(found.rectify(picture()), image)
    assert torch.equal(found.intrinsics, intrinsics)


def test_a_rectified_image_takes_p_and_is_turned_by_r() -> None:
    turn = Rotation.from_euler("xyz", (0.01, -0.02, 0.03)).as_matrix()
    p = np.array([[50.0, 0, 19, -4], [0, 51, 12, 0], [0, 0, 1, 0]])
    found = calibration_from_info(info("CAM_FRONT", r=turn, p=p, d=D), rectified=True)
    image = picture()
    assert found.rectify(image) is image  # D belongs to the raw image
    assert np.array_equal(found.intrinsics.numpy(), p[:, :3])
    assert np.array_equal(found.camera_from_optical.numpy(), turn)


def test_a_region_and_binning_move_and_scale_the_intrinsics() -> None:
    message = info("CAM_FRONT", size=(100, 200), roi=(20, 10, 60, 80), binning=(2, 3))
    found = calibration_from_info(message, rectified=False)
    assert found.size == (20, 40)
    expected = [[15.0, 0, (20.5 - 20) / 2], [0, 10, (11.5 - 10) / 3], [0, 0, 1]]
    assert found.intrinsics.numpy() == pytest.approx(np.array(expected))


def test_the_same_calibration_at_another_time_is_no_change() -> None:
    found = calibration_from_info(info("CAM_FRONT", 5), rectified=False)
    assert found.is_of(info("CAM_FRONT", 6))
    for changes in ({"k": 2 * info("CAM_FRONT").k}, {"d": D}, {"binning": (2, 2)}):
        assert not found.is_of(info("CAM_FRONT", 6, **changes))
    assert not found.is_of(info("CAM_BACK", 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": np.zeros((3, 3))}, "camera_info.K must be calibrated; got zeros"),
        ({"k": np.full((3, 3), np.nan)}, "camera_info.K must be finite"),
        ({"size": (0, 0)}, "must state the size of the images; got width 0 and height 0"),
        ({"d": D, "distortion_model": "thin_prism"}, "distortion_model must be one of plumb_bob"),
        ({"d": D[:3]}, "plumb_bob must have 4 or 5 coefficients; got 3"),
        ({"roi": (30, 0, 24, 20)}, "roi must lie in the image of 40x24; got 20x24 at"),
        ({"binning": (3, 1)}, "binning must divide the image of 40x24; got 3x1"),
        ({"k": -info("CAM_FRONT").k}, "camera_info.K"),
    ],
)
def test_impossible_calibrations_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration_from_info(info("CAM_FRONT", **changes), rectified=False)


def test_r_must_be_a_rotation_for_rectified_images() -> None:
    with pytest.raises(ValueError, match=r"camera_info\.R must be a rotation"):
        calibration_from_info(info("CAM_FRONT", r=2 * np.eye(3)), rectified=True)
    with pytest.raises(ValueError, match=r"camera_info\.P must be calibrated; got zeros"):
        calibration_from_info(info("CAM_FRONT", p=np.zeros((3, 4))), rectified=True)
