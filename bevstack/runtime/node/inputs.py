"""Messages that the node takes, as plain values; ``runtime.ros`` makes them of ROS' messages.

Times are microseconds of the header's stamp. Frames of reference are names such as "base_link".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PixelImage:
    """Image whose pixels stand row after row, as sensor_msgs/Image has them."""

    timestamp_us: int
    frame_id: str
    size: tuple[int, int]  # (H, W)
    encoding: str  # such as "bgr8"
    is_bigendian: bool
    step: int  # bytes from row to row
    data: NDArray[np.uint8]  # (B,)


@dataclass(frozen=True, kw_only=True)
class FileImage:
    """Image as the bytes of a JPEG or PNG, as sensor_msgs/CompressedImage has them."""

    timestamp_us: int
    frame_id: str
    format: str  # free text of the sender, such as "rgb8; jpeg compressed bgr8"
    data: bytes


@dataclass(frozen=True, kw_only=True)
class CameraInfo:
    """Calibration of a camera, as sensor_msgs/CameraInfo has it."""

    timestamp_us: int
    frame_id: str
    size: tuple[int, int]  # (H, W) of the calibration, before binning
    distortion_model: str
    d: Floats  # coefficients of the lens
    k: Floats  # (3, 3) of the raw image
    r: Floats  # (3, 3) rectified from raw camera frame
    p: Floats  # (3, 4) of the rectified image
    binning: tuple[int, int] = (1, 1)  # along x and y; 1: none
    roi: tuple[int, int, int, int] = (0, 0, 0, 0)  # x, y, height, width; zeros: the whole image


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Pose of a child frame in its parent frame."""

    timestamp_us: int
    parent: str
    child: str
    translation_m: Floats  # (3,)
    rotation_wxyz: Floats  # (4,)
    is_static: bool = False


@dataclass(frozen=True, kw_only=True)
class Odometry:
    """Pose of the vehicle in a frame without jumps."""

    timestamp_us: int
    parent: str
    child: str
    translation_m: Floats  # (3,)
    rotation_wxyz: Floats  # (4,)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Simulated time."""

    timestamp_us: int


Image = PixelImage | FileImage
