"""Messages that every format shares: header, pose, covariance, transform, text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.export.messages.store import MessageStore
from bevstack.geometry import quaternion_from_rotation

Floats = NDArray[np.float64]


def make_time(store: MessageStore, timestamp_us: int) -> Any:
    """Return a time of microseconds, exactly."""
    seconds, micros = divmod(timestamp_us, 1_000_000)
    return store["builtin_interfaces/Time"](sec=seconds, nanosec=1000 * micros)


def make_header(store: MessageStore, timestamp_us: int, frame_id: str) -> Any:
    """Return a header; that of ROS 1 counts from 0."""
    sequence = {"seq": 0} if store.is_ros1 else {}
    stamp = make_time(store, timestamp_us)
    return store["std_msgs/Header"](**sequence, stamp=stamp, frame_id=frame_id)


def make_vector(store: MessageStore, values: Floats) -> Any:
    """Return a vector of three numbers."""
    x, y, z = values.tolist()
    return store["geometry_msgs/Vector3"](x=x, y=y, z=z)


def make_pose(store: MessageStore, position: Floats, yaw_rad: float) -> Any:
    """Return a pose of an upright object."""
    return make_poses(store, position[None], np.array([yaw_rad]))[0]


def make_poses(
    store: MessageStore,
    positions: Floats,  # (N, 3)
    yaws_rad: Floats,  # (N,)
) -> list[Any]:
    """Return poses of upright objects."""
    pose, point = store["geometry_msgs/Pose"], store["geometry_msgs/Point"]
    quaternion = store["geometry_msgs/Quaternion"]
    half = yaws_rad / 2
    turns = zip(np.sin(half).tolist(), np.cos(half).tolist(), strict=True)
    return [
        pose(position=point(x=x, y=y, z=z), orientation=quaternion(x=0.0, y=0.0, z=sin, w=cos))
        for (x, y, z), (sin, cos) in zip(positions.tolist(), turns, strict=True)
    ]


def planar_covariance(
    block: Floats | None,  # (2, 2) of x and y
) -> Floats:  # (36,) row by row
    """Return the covariance of (x, y, z, rx, ry, rz); 0 where it is unknown, as ROS has it."""
    covariance = np.zeros((6, 6))
    if block is not None:
        covariance[:2, :2] = block
    return covariance.ravel()


def make_pose_with_covariance(
    store: MessageStore,
    position: Floats,  # (3,)
    yaw_rad: float,
    covariance: Floats | None,  # (6, 6) of x, y, z, rx, ry, rz in the same frame
) -> Any:
    """Return a pose with its covariance; 0 where it is unknown, as ROS has it."""
    known = np.zeros((6, 6)) if covariance is None else covariance
    return store["geometry_msgs/PoseWithCovariance"](
        pose=make_pose(store, position, yaw_rad), covariance=known.ravel()
    )


def make_twist_with_covariance(
    store: MessageStore,
    velocity: Floats,  # (2,)
    block: Floats | None,  # (2, 2)
    turn_rate: float,
) -> Any:
    """Return a velocity and its covariance in the object's axes, and its turn rate."""
    vector, (along, left) = store["geometry_msgs/Vector3"], velocity.tolist()
    linear, angular = vector(x=along, y=left, z=0.0), vector(x=0.0, y=0.0, z=turn_rate)
    return store["geometry_msgs/TwistWithCovariance"](
        twist=store["geometry_msgs/Twist"](linear=linear, angular=angular),
        covariance=planar_covariance(block),
    )


def make_transform(
    store: MessageStore,
    timestamp_us: int,
    parent_from_child: Floats,  # (4, 4)
    frames: tuple[str, str],  # parent, child
) -> Any:
    """Return a message for /tf with one transform."""
    w, x, y, z = quaternion_from_rotation(torch.from_numpy(parent_from_child[:3, :3])).tolist()
    transform = store["geometry_msgs/Transform"](
        translation=make_vector(store, parent_from_child[:3, 3]),
        rotation=store["geometry_msgs/Quaternion"](x=x, y=y, z=z, w=w),
    )
    stamped = store["geometry_msgs/TransformStamped"](
        header=make_header(store, timestamp_us, frames[0]),
        child_frame_id=frames[1],
        transform=transform,
    )
    return store["tf2_msgs/TFMessage"](transforms=[stamped])


def make_text(store: MessageStore, text: str) -> Any:
    """Return a text."""
    return store["std_msgs/String"](data=text)
