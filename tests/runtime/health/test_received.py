"""Pictures of another encoding or size reject their camera alone."""

import numpy as np
import pytest

from bevstack.runtime.health import HealthMonitor, receive_images
from bevstack.types.health import CameraState
from tests.runtime.health.frames import HEIGHT, NAMES, WIDTH, frame, texture

SIZES = [(HEIGHT, WIDTH)] * 2


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), r"CAM_FRONT must be RGB .*got \(72, 128\)"),
        (np.zeros((HEIGHT, WIDTH, 4), np.uint8), "another encoding"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint16), "8 bits; got uint16"),
        (np.zeros((WIDTH, HEIGHT, 3), np.uint8), "must be 128x72 as calibrated; got 72x128"),
        (b"jpeg", "must be an array; got bytes"),
    ],
)
def test_a_picture_that_does_not_fit_rejects_its_camera_alone(image, reason):
    good = texture(0)
    received = receive_images([image, good], NAMES, SIZES)
    assert received.images[0] is None and received.images[1] is good
    assert received.rejected == ("CAM_FRONT",)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(received.reasons[0])
    monitor = HealthMonitor()
    monitor.admit(frame(0, images=received.images, rejected_cameras=received.rejected))
    assert monitor.states == {"CAM_FRONT": CameraState.REJECTED, "CAM_BACK": CameraState.OK}


def test_a_camera_without_a_picture_is_not_rejected():
    received = receive_images([None, texture(0)], NAMES, SIZES)
    assert received.rejected == () and received.images[0] is None


def test_the_numbers_must_agree():
    with pytest.raises(ValueError, match="must be one a camera; got 1, 2 and 2"):
        receive_images([None], NAMES, SIZES)
