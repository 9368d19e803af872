"""State of a camera whose images do not come, come late, or come after all."""

from __future__ import annotations

import pytest

from bevstack.export.messages.status import WARN
from bevstack.runtime.node.cameras import CameraInput, CameraStatus, InputState
from bevstack.runtime.node.diagnostics import Diagnostician
from tests.runtime.node.inputs import CAMERAS, START_US, file_image, info, make_core

PERIOD_US, SILENT_US = 100_000, 1_000_000


def running() -> CameraInput:
    """Return a camera whose last image came at 0."""
    camera = CameraInput("a", "/a/image_raw", "/a/camera_info")
    for cycle in range(-10, 1):
        camera.arrived(cycle * PERIOD_US)
    return camera


def status(camera: CameraInput, now_us: int) -> CameraStatus:
    return camera.status(now_us, SILENT_US)


def test_a_window_without_an_image_is_late_and_a_second_one_missing() -> None:
    camera = running()
    camera.absent(160_000)
    assert status(camera, 160_000).state is InputState.LATE
    camera.absent(260_000)
    found = status(camera, 260_000)
    assert found.state is InputState.MISSING and found.state.loses_camera
    assert found.reason.startswith("no image on /a/image_raw in 2 windows: check the camera")
    assert found.faults == {"missing": 2}
    camera.arrived(300_000)  # it is shown for a second
    assert status(camera, 300_000).state is InputState.MISSING
    camera.absent(460_000)  # a single one later does not hide it
    assert status(camera, 460_000).state is InputState.MISSING
    camera.arrived(500_000)
    assert status(camera, 1_460_001).state is InputState.OK


@pytest.mark.parametrize(
    "state", [InputState.LATE, InputState.OUT_OF_ORDER, InputState.REJECTED, InputState.STALE]
)
def test_an_image_that_comes_after_all_tells_the_cause(state: InputState) -> None:
    camera = running()
    camera.absent(160_000)
    camera.absent(260_000)
    camera.arrived(270_000)
    camera.fault(state, "a reason", 270_000)
    assert status(camera, 270_000).state is state
    assert status(camera, 270_000).reason == "a reason"


def test_a_camera_of_a_lower_rate_is_not_missing_between_its_images() -> None:
    camera = CameraInput("a", "/a/image_raw", "/a/camera_info")
    for cycle in range(-10, 1):
        camera.arrived(3 * cycle * PERIOD_US)  # windows come three times as often
    camera.absent(PERIOD_US)
    camera.absent(2 * PERIOD_US)
    assert status(camera, 2 * PERIOD_US).state is InputState.LATE


def test_images_that_come_after_those_of_the_other_cameras_are_late_from_the_second_on() -> None:
    camera = running()
    camera.lag(41_000, 40_000, 0)
    assert status(camera, 0).state is InputState.OK
    camera.lag(40_000, 40_000, 1)
    camera.lag(55_000, 40_000, 2)
    assert status(camera, 2).state is InputState.OK
    camera.lag(56_000, 40_000, 3)
    found = status(camera, 3)
    assert found.state is InputState.LATE and not found.state.loses_camera
    assert found.reason.startswith("images come 56 ms later than those of the other cameras, which")


def test_an_image_of_another_frame_than_its_calibration_is_a_warning() -> None:
    core, _ = make_core()
    camera = CAMERAS[1]
    core.add_image(camera, file_image(camera, START_US), START_US)
    author = Diagnostician(core, model="fake", times=True)

    def calibration() -> tuple[int, str]:
        (found,) = (s for s in author.statuses(START_US) if s.name.endswith("calibration"))
        return found.level, found.message

    assert calibration() == (0, "constant")
    core.add_info(camera, info(camera, frame_id="cam_back_optical_frame"), START_US)
    level, message = calibration()
    assert level == WARN
    assert message.startswith(
        "CAM_FRONT_RIGHT: header.frame_id must be the same in images and camera_info; got "
        "'cam_front_right_optical_frame' and 'cam_back_optical_frame', which counts"
    )
