"""Rigs that cannot be are named with their cause; those of real vehicles are silent."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bevstack.geometry.rig_plausibility import (
    ImplausibleRigWarning,
    RigCameras,
    RigFault,
    find_rig_faults,
    find_role,
    warn_of_rig_faults,
)
from bevstack.synthetic.rig import make_rig

Poses = NDArray[np.float64]
# Axes of an optical frame (x right, y down, z forward) in a frame x forward, y left, z up.
VEHICLE_FROM_OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def rig_of(vehicle: str, rng: np.random.Generator | None = None) -> RigCameras:
    rig = make_rig(vehicle, (900, 1600), rng)
    poses = np.tile(np.eye(4), (len(rig.cameras), 1, 1))
    for pose, camera in zip(poses, rig.cameras, strict=True):
        pose[:3, :3], pose[:3, 3] = camera.ego_from_cam_rotation, camera.ego_from_cam_translation_m
    return RigCameras(
        names=[camera.channel for camera in rig.cameras],
        ego_from_cam=poses,
        intrinsics=np.stack([camera.intrinsics for camera in rig.cameras]),
        image_size=np.array([rig.image_size] * len(rig.cameras)),
    )


def camera(
    name: str,
    yaw_deg: float,
    *,
    position: tuple[float, float, float] = (1.5, 0.0, 1.6),
    pitch_deg: float = 0.0,  # downward
    view_deg: float = 70.0,
    size: tuple[int, int] = (1080, 1920),
) -> RigCameras:
    turned = Rotation.from_euler("ZY", [yaw_deg, pitch_deg], degrees=True).as_matrix()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turned @ VEHICLE_FROM_OPTICAL, position
    focal = size[1] / 2 / np.tan(np.radians(view_deg / 2))
    matrix = np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]])
    return RigCameras(
        names=[name],
        ego_from_cam=pose[None],
        intrinsics=matrix[None],
        image_size=np.array([size]),
    )


def join(*cameras: RigCameras) -> RigCameras:
    return RigCameras(
        names=[name for part in cameras for name in part.names],
        ego_from_cam=np.concatenate([part.ego_from_cam for part in cameras]),
        intrinsics=np.concatenate([part.intrinsics for part in cameras]),
        image_size=np.concatenate([part.image_size for part in cameras]),
    )


def turned(poses: Poses, rotations: Poses, positions: Poses | None = None) -> Poses:
    changed = poses.copy()
    changed[:, :3, :3] = rotations
    changed[:, :3, 3] = poses[:, :3, 3] if positions is None else positions
    return changed


def quaternions(poses: Poses) -> Poses:  # xyzw
    return Rotation.from_matrix(poses[:, :3, :3]).as_quat()


def in_ego_axes(rotation: Poses) -> Callable[[Poses], Poses]:
    return lambda p: turned(p, rotation @ p[:, :3, :3], p[:, :3, 3] @ rotation.T)


def in_degrees(poses: Poses) -> Poses:
    levels = Rotation.from_matrix(poses[:, :3, :3] @ VEHICLE_FROM_OPTICAL.T)
    angles_deg = levels.as_euler("zyx", degrees=True)
    wrong = Rotation.from_euler("zyx", angles_deg).as_matrix()  # taken as radians
    return turned(poses, wrong @ VEHICLE_FROM_OPTICAL)


MISTAKES: dict[str, Callable[[Poses], Poses]] = {
    "cam_from_ego (the inverse)": np.linalg.inv,
    "camera axes of the vehicle convention": lambda p: turned(
        p, p[:, :3, :3] @ VEHICLE_FROM_OPTICAL.T
    ),
    "camera axes of OpenGL": lambda p: turned(p, p[:, :3, :3] * [1.0, -1.0, -1.0]),
    "order x, y, z, w instead of w, x, y, z": lambda p: turned(
        p, Rotation.from_quat(quaternions(p)[:, [1, 2, 3, 0]]).as_matrix()
    ),
    "ego axes x forward, y right, z down": in_ego_axes(np.diag([1.0, -1.0, -1.0])),
    "ego axes x right, y forward, z up": in_ego_axes(
        np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    ),
    "ego axes of a camera": in_ego_axes(VEHICLE_FROM_OPTICAL.T),
    "an ego frame that points backward": in_ego_axes(np.diag([-1.0, -1.0, 1.0])),
    "a position in millimetres": lambda p: turned(p, p[:, :3, :3], 1000 * p[:, :3, 3]),
    "a position in centimetres": lambda p: turned(p, p[:, :3, :3], 100 * p[:, :3, 3]),
    "a height that counts downward": lambda p: turned(
        p, p[:, :3, :3], p[:, :3, 3] * [1.0, 1.0, -1.0]
    ),
}


@pytest.mark.parametrize("vehicle", ["n015", "n008"])
@pytest.mark.parametrize("cause", MISTAKES)
def test_a_common_mistake_in_all_poses_is_named(vehicle: str, cause: str) -> None:
    right = rig_of(vehicle)
    faults = find_rig_faults(replace(right, ego_from_cam=MISTAKES[cause](right.ego_from_cam)))
    # The quaternions of forward cameras are nearly the same in both orders.
    assert len(faults) == (3 if "x, y, z, w" in cause else 6), [fault.sentence for fault in faults]
    for fault in faults:
        assert cause in fault.sentence and f"camera {fault.camera!r} must" in fault.sentence
        assert "; got " in fault.sentence and "\n" not in fault.sentence


@pytest.mark.parametrize("cause", ["cam_from_ego (the inverse)", "camera axes of the vehicle"])
@pytest.mark.parametrize("row", range(6))
def test_the_one_wrong_camera_is_named(cause: str, row: int) -> None:
    right = rig_of("n015")
    mistake = next(change for name, change in MISTAKES.items() if name.startswith(cause))
    poses = right.ego_from_cam.copy()
    poses[row] = mistake(poses[[row]])[0]
    (fault,) = find_rig_faults(replace(right, ego_from_cam=poses))
    assert fault.camera == right.names[row] and cause in fault.sentence


def test_degrees_for_radians_are_found_in_most_cameras() -> None:
    right = rig_of("n008")
    faults = find_rig_faults(replace(right, ego_from_cam=in_degrees(right.ego_from_cam)))
    assert len(faults) >= 4
    unexplained = [fault.sentence for fault in faults if not fault.cause]
    assert unexplained
    assert all("check the calibration: angles in radians" in text for text in unexplained)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CAM_BACK", "CAM_FRONT"),
        ("CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"),
        ("CAM_BACK_LEFT", "CAM_FRONT"),
    ],
)
def test_exchanged_and_copied_poses_are_named(one: str, other: str) -> None:
    right = rig_of("n015")
    rows = [right.names.index(one), right.names.index(other)]
    poses = right.ego_from_cam.copy()
    poses[rows] = poses[rows[::-1]]
    faults = {fault.camera: fault for fault in find_rig_faults(replace(right, ego_from_cam=poses))}
    assert faults[one].cause == f"the pose of {other!r}"
    assert faults[other].cause == f"the pose of {one!r}"
    poses = right.ego_from_cam.copy()
    poses[rows[0]] = poses[rows[1]]
    (fault,) = find_rig_faults(replace(right, ego_from_cam=poses))
    assert fault.camera == one and repr(other) in fault.sentence


def changed_intrinsics(change: Callable[[Poses], Poses], size=(900, 1600)) -> tuple[RigFault, ...]:
    right = rig_of("n015")
    size = np.array([size] * len(right.names))
    return find_rig_faults(replace(right, intrinsics=change(right.intrinsics), image_size=size))


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        (lambda k: k, (450, 800), "inside the image of 800x450 pixels.*of a larger image"),
        (lambda k: k, (1800, 3200), "near the middle of the image.*of a smaller image"),
        (
            lambda k: np.diag([1 / 1600, 1 / 900, 1]) @ k,
            (900, 1600),
            "field of view of 10 to 170 degrees; got 179.9 by .*in parts of the image size",
        ),
        (
            lambda k: k * [[0.004, 1, 1], [1, 0.004, 1], [1, 1, 1]],
            (900, 1600),
            "field of view of 10 to 170 degrees; got 179.*focal length in millimetres",
        ),
        (
            lambda k: k * [[9.0, 1, 1], [1, 9.0, 1], [1, 1, 1]],
            (900, 1600),
            "field of view of 10 to 170 degrees; got",
        ),
        (
            lambda k: k * [[2.0, 1, 1], [1, 2.0, 1], [1, 1, 1]],
            (900, 1600),
            "must overlap with its neighbour 'CAM_.*'; got a gap of \\d+ degrees",
        ),
    ],
)
def test_wrong_intrinsics_are_named(change, size, message: str) -> None:
    faults = changed_intrinsics(change, size)
    assert len(faults) >= 5
    with pytest.warns(ImplausibleRigWarning, match=message):
        warn_of_rig_faults(faults)


def test_a_camera_turned_away_from_its_neighbour_leaves_a_gap() -> None:
    right = rig_of("n015")
    poses = right.ego_from_cam.copy()
    by_30 = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    poses[2, :3, :3] = by_30 @ poses[2, :3, :3]  # CAM_FRONT_LEFT
    (fault,) = find_rig_faults(replace(right, ego_from_cam=poses))
    assert "'CAM_FRONT_LEFT' must overlap with its neighbour 'CAM_FRONT'" in fault.sentence
    # Another camera that sees this sector makes the rig whole.
    whole = join(replace(right, ego_from_cam=poses), camera("CAM_EXTRA", 40.0))
    assert not find_rig_faults(whole)


@pytest.mark.parametrize("vehicle", ["n015", "n008"])
def test_rigs_of_synthetic_worlds_are_silent(vehicle: str) -> None:
    assert not find_rig_faults(rig_of(vehicle))
    for seed in range(100):
        assert not find_rig_faults(rig_of(vehicle, np.random.default_rng(seed)))


RIGHT_RIGS = {
    "a lorry with high cameras that look into a junction": join(
        camera("CAM_FRONT", 0.0, position=(6.2, 0.0, 3.4), pitch_deg=12.0, view_deg=65.0),
        camera("CAM_FRONT_LEFT", 90.0, position=(6.0, 1.3, 3.2), pitch_deg=20.0, view_deg=100.0),
        camera("CAM_FRONT_RIGHT", -90.0, position=(6.0, -1.3, 3.2), pitch_deg=20.0, view_deg=100.0),
        camera("CAM_BACK_LEFT", 165.0, position=(5.5, 1.4, 2.8), pitch_deg=10.0),
        camera("CAM_BACK_RIGHT", -165.0, position=(5.5, -1.4, 2.8), pitch_deg=10.0),
        camera("CAM_BACK", 180.0, position=(-2.5, 0.0, 3.6), pitch_deg=35.0),
    ),
    "tele cameras of 30 and of 12 degrees": join(
        camera("CAM_FRONT_TELE", 0.0, view_deg=30.0),
        camera("front_far", 0.0, view_deg=12.0),
        camera("CAM_FRONT", 1.0, view_deg=30.0),
    ),
    "six roles whose front camera is a tele camera": join(
        rig_of("n015").select([1, 2, 3, 4, 5]), camera("CAM_FRONT", 0.0, view_deg=30.0)
    ),
    "surround cameras that look down": join(
        camera("front_fisheye", 0.0, position=(3.7, 0.0, 0.6), pitch_deg=35.0, view_deg=160.0),
        camera("left", 90.0, position=(2.0, 1.0, 1.0), pitch_deg=60.0, view_deg=160.0),
        camera("right", -90.0, position=(2.0, -1.0, 1.0), pitch_deg=60.0, view_deg=160.0),
        camera("rear", 180.0, position=(-1.0, 0.0, 0.8), pitch_deg=45.0, view_deg=160.0),
    ),
    "names without a role": join(camera("cam0", 133.0), camera("A7", -20.0), camera("", 180.0)),
    "a stereo pair": join(
        camera("stereo_front_left", 0.0, position=(1.6, 0.2, 1.4)),
        camera("stereo_front_right", 0.0, position=(1.6, -0.2, 1.4)),
    ),
    "one camera": camera("CAM_FRONT", 5.0, pitch_deg=-5.0),
    "an image without its lower half": replace(
        camera("CAM_FRONT", 0.0, size=(1080, 1920)), image_size=np.array([[560, 1920]])
    ),
}


@pytest.mark.parametrize("name", RIGHT_RIGS)
def test_right_rigs_are_silent(name: str) -> None:
    assert find_rig_faults(RIGHT_RIGS[name]) == ()


def test_a_fisheye_may_see_more_than_a_pinhole_camera_can() -> None:
    wide = camera("CAM_FRONT", 0.0, view_deg=175.0)
    assert "field of view" in find_rig_faults(wide)[0].sentence
    assert not find_rig_faults(replace(wide, fisheye=np.array([True])))


def test_a_size_of_0_is_unknown() -> None:
    wrong = replace(camera("CAM_FRONT", 0.0, view_deg=175.0), image_size=np.array([[0, 0]]))
    assert not find_rig_faults(wrong)


def test_a_quaternion_that_is_none_is_named() -> None:
    given = replace(camera("CAM_FRONT", 0.0), norm=np.array([90.0]))
    assert "must have a quaternion of length 1; got 90" in find_rig_faults(given)[0].sentence


@pytest.mark.oracle("rig_real_calibrations")
def test_real_calibrations_are_silent(oracle_dir: Path) -> None:
    tables = sorted((oracle_dir.parent / "data").rglob("calibrated_sensor.json"))
    assert tables
    for path in tables:
        sensors = {
            row["token"]: row for row in json.loads((path.parent / "sensor.json").read_text())
        }
        rows = [
            (sensors[row["sensor_token"]]["channel"], row)
            for row in json.loads(path.read_text())
            if sensors[row["sensor_token"]]["modality"] == "camera"
        ]
        assert len(rows) >= 6
        for first in range(0, len(rows), 6):  # each rig's cameras follow each other, or not: alone
            group = rows[first : first + 6]
            names = [channel for channel, _ in group]
            poses = np.tile(np.eye(4), (len(group), 1, 1))
            xyzw = [[*row["rotation"][1:], row["rotation"][0]] for _, row in group]
            poses[:, :3, :3] = Rotation.from_quat(xyzw).as_matrix()
            poses[:, :3, 3] = [row["translation"] for _, row in group]
            cameras = RigCameras(
                names=names,
                ego_from_cam=poses,
                intrinsics=np.array([row["camera_intrinsic"] for _, row in group]),
                image_size=np.array([[900, 1600]] * len(group)),
                norm=np.linalg.norm(xyzw, axis=1),
            )
            parts = (
                [cameras] if len(set(names)) == 6 else map(cameras.select, zip(range(len(names))))
            )
            for part in parts:
                assert find_rig_faults(part) == ()


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("CAM_BACK", 180.0),
        ("ring_rear_left", 125.0),
        ("FrontRight", -45.0),
        ("camera-front-tele", 0.0),
        ("SIDE_LEFT", 90.0),
        ("background", None),
        ("cam3", None),
        ("stereo_left", None),
        ("front_back", None),
    ],
)
def test_roles_are_words_of_the_name(name: str, direction: float | None) -> None:
    role = find_role(name)
    assert (None if role is None else role[0]) == direction


def test_the_warning_is_a_value_error_when_warnings_are_errors() -> None:
    faults = find_rig_faults(camera("CAM_BACK", 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplausibleRigWarning)
        with pytest.raises(ValueError, match="camera 'CAM_BACK' must look to about 180 degrees"):
            warn_of_rig_faults(faults)
