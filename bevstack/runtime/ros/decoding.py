"""ROS' messages as the node's inputs, whichever distribution's types they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bevstack.runtime.node.inputs import (
    CameraInfo,
    Clock,
    FileImage,
    Floats,
    Odometry,
    PixelImage,
    Transform,
)


def image_from(message: Any) -> PixelImage:
    """Return a sensor_msgs/Image.

    Raises:
        ValueError: its stamp is impossible.
    """
    return PixelImage(
        timestamp_us=stamp_us(message.header.stamp),
        frame_id=message.header.frame_id,
        size=(int(message.height), int(message.width)),
        encoding=message.encoding,
        is_bigendian=bool(message.is_bigendian),
        step=int(message.step),
        data=_bytes(message.data),
    )


def compressed_image_from(message: Any) -> FileImage:
    """Return a sensor_msgs/CompressedImage.

    Raises:
        ValueError: its stamp is impossible.
    """
    return FileImage(
        timestamp_us=stamp_us(message.header.stamp),
        frame_id=message.header.frame_id,
        format=message.format,
        data=_bytes(message.data).tobytes(),
    )


def camera_info_from(message: Any) -> CameraInfo:
    """Return a sensor_msgs/CameraInfo; ROS 1 writes the matrices' names in capitals.

    Raises:
        ValueError: its stamp is impossible, or a matrix has another size.
    """
    d, k, r, p = (
        np.array(getattr(message, name, getattr(message, name.upper(), ())), dtype=np.float64)
        for name in ("d", "k", "r", "p")
    )
    if (k.size, r.size, p.size) != (9, 9, 12):
        raise ValueError(
            f"camera_info must have K, R and P; got {k.size}, {r.size}, {p.size} values"
        )
    roi = message.roi
    return CameraInfo(
        timestamp_us=stamp_us(message.header.stamp),
        frame_id=message.header.frame_id,
        size=(int(message.height), int(message.width)),
        distortion_model=message.distortion_model,
        d=d,
        k=k.reshape(3, 3),
        r=r.reshape(3, 3),
        p=p.reshape(3, 4),
        binning=(max(1, int(message.binning_x)), max(1, int(message.binning_y))),
        roi=(int(roi.x_offset), int(roi.y_offset), int(roi.height), int(roi.width)),
    )


def odometry_from(message: Any) -> Odometry:
    """Return a nav_msgs/Odometry.

    Raises:
        ValueError: its stamp is impossible.
    """
    pose = message.pose.pose
    return Odometry(
        timestamp_us=stamp_us(message.header.stamp),
        parent=message.header.frame_id,
        child=message.child_frame_id,
        translation_m=_vector(pose.position),
        rotation_wxyz=_quaternion(pose.orientation),
    )


def transforms_from(message: Any, *, is_static: bool) -> Iterator[Transform]:
    """Yield the transforms of a tf2_msgs/TFMessage.

    Raises:
        ValueError: a stamp is impossible.
    """
    for stamped in message.transforms:
        yield Transform(
            timestamp_us=stamp_us(stamped.header.stamp),
            parent=stamped.header.frame_id,
            child=stamped.child_frame_id,
            translation_m=_vector(stamped.transform.translation),
            rotation_wxyz=_quaternion(stamped.transform.rotation),
            is_static=is_static,
        )


def clock_from(message: Any) -> Clock:
    """Return a rosgraph_msgs/Clock.

    Raises:
        ValueError: its time is impossible.
    """
    return Clock(timestamp_us=stamp_us(message.clock))


def stamp_us(stamp: Any) -> int:
    """Return a stamp in whole microseconds, rounded down.

    Raises:
        ValueError: the nanoseconds are not below one second, or the seconds are negative.
    """
    seconds, nanoseconds = int(stamp.sec), int(stamp.nanosec)
    if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
        raise ValueError(
            f"stamp must have seconds from 0 and nanoseconds below 1000000000; got {seconds} and "
            f"{nanoseconds}: correct the sender"
        )
    return seconds * 1_000_000 + nanoseconds // 1000


def _bytes(data: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if isinstance(data, np.ndarray):
        return data.view(np.uint8).reshape(-1)
    return np.frombuffer(bytes(data), dtype=np.uint8)


def _vector(value: Any) -> Floats:  # (3,)
    return np.array((value.x, value.y, value.z), dtype=np.float64)


def _quaternion(value: Any) -> Floats:  # (4,) wxyz
    return np.array((value.w, value.x, value.y, value.z), dtype=np.float64)
