"""Camera and lidar rigs of the two nuScenes cars, with a per-scene jitter.

The nominal values are from nuScenes' `calibrated_sensor` table (1600x900 images). Because of the
jitter, a model that ignores the calibration is wrong by some pixels in every scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.vocabulary import CAMERA_CHANNELS

FRONT_CAMERA = "CAM_FRONT"
NATIVE_SIZE = (900, 1600)  # (H, W) px of the nominal intrinsics


@dataclass(frozen=True, kw_only=True)
class CameraMount:
    """A pinhole camera of the rig; pixel column j covers [j, j + 1), so its centre is j + 0.5."""

    channel: str
    intrinsics: NDArray[np.float64]  # (3, 3) px
    ego_from_cam_rotation: NDArray[np.float64]  # (3, 3); camera x right, y down, z forward
    ego_from_cam_translation_m: NDArray[np.float64]  # (3,)
    quaternion_wxyz: tuple[float, float, float, float]
    time_offset_us: int  # time of exposure minus time of the sample (of the lidar)


@dataclass(frozen=True, kw_only=True)
class LidarMount:
    """The spinning lidar on the roof."""

    ego_from_lidar_rotation: NDArray[np.float64]  # (3, 3); sensor x is the ego's right
    ego_from_lidar_translation_m: NDArray[np.float64]  # (3,)
    quaternion_wxyz: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class SensorRig:
    """All sensors of one scene."""

    vehicle: str  # "n015" or "n008"
    image_size: tuple[int, int]  # (H, W) px
    cameras: tuple[CameraMount, ...]  # in the order of CAMERA_CHANNELS
    lidar: LidarMount


# channel -> (focal px, cx px, cy px, translation m, ego_from_cam quaternion wxyz)
_Nominal = tuple[float, float, float, tuple[float, ...], tuple[float, ...]]

_N015: dict[str, _Nominal] = {
    "CAM_FRONT": (
        1266.417203,
        816.267020,
        491.507066,
        (1.700791, 0.015946, 1.510958),
        (0.4998015430, -0.5030316162, 0.4997798114, -0.4973708382),
    ),
    "CAM_FRONT_RIGHT": (
        1260.847445,
        807.968245,
        495.334427,
        (1.550848, -0.493405, 1.495748),
        (0.2060347966, -0.2026940578, 0.6824507825, -0.6713610884),
    ),
    "CAM_FRONT_LEFT": (
        1272.597947,
        826.615493,
        479.751654,
        (1.523878, 0.494631, 1.509328),
        (0.6757265035, -0.6736266522, 0.2121401505, -0.2112282710),
    ),
    "CAM_BACK": (
        809.220991,
        829.219600,
        481.778424,
        (0.028326, 0.003451, 1.579103),
        (0.5037872666, -0.4974024979, -0.4941850223, 0.5045496098),
    ),
    "CAM_BACK_LEFT": (
        1256.741481,
        792.112574,
        492.775747,
        (1.035691, 0.484795, 1.590970),
        (0.6924185592, -0.7031619420, -0.1164834277, 0.1120331791),
    ),
    "CAM_BACK_RIGHT": (
        1259.513741,
        807.252905,
        501.195799,
        (1.014878, -0.480568, 1.562395),
        (0.1228098012, -0.1324008427, -0.7004305821, 0.6904960313),
    ),
}

_N008: dict[str, _Nominal] = {
    "CAM_FRONT": (
        1252.813102,
        826.588115,
        469.984663,
        (1.722006, 0.004755, 1.494913),
        (0.5077241388, -0.4973392231, 0.4983716754, -0.4964832014),
    ),
    "CAM_FRONT_RIGHT": (
        1256.748512,
        817.788757,
        451.954178,
        (1.580826, -0.499079, 1.517494),
        (0.2033517377, -0.1914633323, 0.6785710045, -0.6793609166),
    ),
    "CAM_FRONT_LEFT": (
        1257.862534,
        827.241063,
        450.915498,
        (1.575256, 0.500519, 1.506960),
        (0.6812088525, -0.6687507165, 0.2101702449, -0.2110816112),
    ),
    "CAM_BACK": (
        796.891063,
        857.777433,
        476.884899,
        (0.055246, 0.010788, 1.567943),
        (0.5067997345, -0.4977567019, -0.4987849934, 0.4965942258),
    ),
    "CAM_BACK_LEFT": (
        1254.986057,
        829.576933,
        467.168056,
        (1.048520, 0.483058, 1.562102),
        (0.7048620298, -0.6907306801, -0.1120909196, 0.1161734574),
    ),
    "CAM_BACK_RIGHT": (
        1249.962928,
        825.376805,
        462.548164,
        (1.059452, -0.467203, 1.550509),
        (0.1381918771, -0.1379671818, -0.6893329942, 0.6976303355),
    ),
}

_LIDAR = {
    "n015": ((0.943713, 0.0, 1.840230), (0.7077955, -0.0064922, 0.0106462, -0.7063073)),
    "n008": ((0.985793, 0.0, 1.840190), (0.7067492, -0.0153010, 0.0173975, -0.7070847)),
}

# Radars have a calibration but no data: (translation m, quaternion wxyz).
RADAR_MOUNTS = {
    "RADAR_FRONT": ((3.412, 0.0, 0.5), (0.9999985, 0.0, 0.0, 0.0017453)),
    "RADAR_FRONT_LEFT": ((2.422, 0.8, 0.78), (0.7171539, 0.0, 0.0, 0.6969148)),
    "RADAR_FRONT_RIGHT": ((2.422, -0.8, 0.77), (0.7010337, 0.0, 0.0, -0.7131281)),
    "RADAR_BACK_LEFT": ((-0.562, 0.628, 0.53), (0.0487626, 0.0, 0.0, 0.9988104)),
    "RADAR_BACK_RIGHT": ((-0.562, -0.618, 0.53), (0.0339401, 0.0, 0.0, -0.9994239)),
}

# Medians of the real mini_val split: the rotating lidar triggers the cameras one after another.
_TIME_OFFSET_US = {
    "CAM_FRONT": -35000,
    "CAM_FRONT_RIGHT": -27000,
    "CAM_FRONT_LEFT": -43000,
    "CAM_BACK": -10000,
    "CAM_BACK_LEFT": 0,
    "CAM_BACK_RIGHT": -20000,
}


def front_alone(rig: SensorRig) -> SensorRig:
    """Return a rig without the cameras that do not look ahead."""
    cameras = tuple(camera for camera in rig.cameras if camera.channel == FRONT_CAMERA)
    return replace(rig, cameras=cameras)


def quaternion_to_matrix(
    quaternion_wxyz: NDArray[np.float64] | tuple[float, ...],
) -> NDArray[np.float64]:
    """Return the rotation matrix (3, 3) of a quaternion, which is normalised first."""
    w, x, y, z = np.asarray(quaternion_wxyz, dtype=np.float64) / np.linalg.norm(quaternion_wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def multiply_quaternions(
    left: tuple[float, ...], right: tuple[float, ...]
) -> tuple[float, float, float, float]:
    """Return the Hamilton product: the right rotation first, then the left one."""
    a, b, c, d = left
    e, f, g, h = right
    return (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )


def yaw_to_quaternion(yaw_rad: float) -> tuple[float, float, float, float]:
    """Return the quaternion wxyz of a rotation about z."""
    return (math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2))


def make_rig(
    vehicle: str,
    image_size: tuple[int, int],  # (H, W) px
    rng: np.random.Generator | None,
    *,
    camera_yaw_deg: float = 0.0,
) -> SensorRig:
    """Build the rig of one scene.

    Args:
        vehicle: "n015" or "n008".
        image_size: rows and columns of the images; the intrinsics are scaled to them.
        rng: draws the jitter (focal +-1 %, principal point +-15 px of 1600x900, yaw and pitch
            +-1 degree, translation +-3 cm, all uniform); None for the nominal rig.
        camera_yaw_deg: extra yaw of every camera about its centre, counter-clockwise seen from
            above. It does not change the random draws.

    Raises:
        ValueError: the vehicle is unknown.
    """
    nominal = {"n015": _N015, "n008": _N008}.get(vehicle)
    if nominal is None:
        raise ValueError(f"vehicle must be 'n015' or 'n008'; got {vehicle!r}")
    cameras = tuple(
        _mount(name, nominal[name], image_size, rng, camera_yaw_deg) for name in CAMERA_CHANNELS
    )
    translation, quaternion = _LIDAR[vehicle]
    lidar = LidarMount(
        ego_from_lidar_rotation=quaternion_to_matrix(quaternion),
        ego_from_lidar_translation_m=np.array(translation),
        quaternion_wxyz=quaternion,
    )
    return SensorRig(vehicle=vehicle, image_size=image_size, cameras=cameras, lidar=lidar)


def _mount(
    channel: str,
    nominal: _Nominal,
    image_size: tuple[int, int],
    rng: np.random.Generator | None,
    yaw_deg: float,
) -> CameraMount:
    focal, cx, cy, translation, quaternion = nominal
    unit = np.zeros(8) if rng is None else rng.uniform(-1.0, 1.0, 8)
    focal *= 1.0 + 0.01 * unit[0]
    cx += 15.0 * unit[1]
    cy += 15.0 * unit[2]
    yaw = yaw_to_quaternion(math.radians(unit[3] + yaw_deg))
    half_pitch = math.radians(unit[4]) / 2
    pitch = (math.cos(half_pitch), math.sin(half_pitch), 0.0, 0.0)  # about the camera's x axis
    product = multiply_quaternions(multiply_quaternions(yaw, quaternion), pitch)
    qw, qx, qy, qz = (float(v) for v in np.asarray(product) / np.linalg.norm(product))
    rotation = (qw, qx, qy, qz)
    scale_y, scale_x = image_size[0] / NATIVE_SIZE[0], image_size[1] / NATIVE_SIZE[1]
    intrinsics = np.array(
        [[focal * scale_x, 0.0, cx * scale_x], [0.0, focal * scale_y, cy * scale_y], [0, 0, 1.0]]
    )
    return CameraMount(
        channel=channel,
        intrinsics=intrinsics,
        ego_from_cam_rotation=quaternion_to_matrix(rotation),
        ego_from_cam_translation_m=np.array(translation) + 0.03 * unit[5:8],
        quaternion_wxyz=rotation,
        time_offset_us=_TIME_OFFSET_US[channel],
    )
