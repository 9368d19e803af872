"""Messages of sensors: images, calibrations, motion of the vehicle, clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.datasets.image_header import read_header
from bevstack.export.messages.parts import Floats, make_header, make_time, make_vector
from bevstack.export.messages.store import MessageStore
from bevstack.geometry import quaternion_from_rotation
from bevstack.geometry.lenses import Lens

_FORMATS = {"JPEG": "jpeg", "PNG": "png"}  # of image_transport; BMP has none
_PLUMB_BOB = "plumb_bob"


class StampedPose(NamedTuple):
    """A pose of the vehicle with its time and frames."""

    timestamp_us: int
    parent_from_child: Floats  # (4, 4)
    parent: str
    child: str


def make_compressed_image(
    store: MessageStore, timestamp_us: int, frame_id: str, data: bytes
) -> Any:
    """Return an image file's bytes as they are, with the format that image_transport gives them.

    Raises:
        ValueError: the bytes are no JPEG and no PNG.
    """
    header = read_header(data)
    kind = None if header is None else _FORMATS.get(header.kind)
    if header is None or kind is None:
        found = "no image" if header is None else header.kind
        raise ValueError(
            f"compressed image must be a JPEG or PNG; got {found} of {frame_id}: write raw images"
        )
    encoding, inner = ("mono8", "") if header.channels == 1 else ("rgb8", "bgr8")
    return store["sensor_msgs/CompressedImage"](
        header=make_header(store, timestamp_us, frame_id),
        format=f"{encoding}; {kind} compressed {inner}",
        data=np.frombuffer(data, dtype=np.uint8),
    )


def make_image(
    store: MessageStore,
    timestamp_us: int,
    frame_id: str,
    image: NDArray[np.uint8],  # (H, W, 3) RGB
) -> Any:
    """Return an image with its pixels as rgb8."""
    height, width = image.shape[:2]
    return store["sensor_msgs/Image"](
        header=make_header(store, timestamp_us, frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(image).reshape(-1),
    )


def make_camera_info(
    store: MessageStore,
    timestamp_us: int,
    frame_id: str,
    size: tuple[int, int],  # (H, W)
    calibration: tuple[Floats, Lens | None],  # (3, 3) intrinsics before undistortion
) -> Any:
    """Return the calibration of a raw image; P holds the intrinsics, R is the identity."""
    intrinsics, lens = calibration
    projection = np.zeros((3, 4))
    projection[:, :3] = intrinsics
    values = {
        "d": np.zeros(5) if lens is None else np.array(lens.coefficients),
        "k": intrinsics.ravel().copy(),
        "r": np.eye(3).ravel(),
        "p": projection.ravel(),
    }
    if store.is_ros1:
        values = {name.upper(): value for name, value in values.items()}
    roi = store["sensor_msgs/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return store["sensor_msgs/CameraInfo"](
        header=make_header(store, timestamp_us, frame_id),
        height=size[0],
        width=size[1],
        distortion_model=_PLUMB_BOB if lens is None else lens.model,
        binning_x=0,
        binning_y=0,
        roi=roi,
        **values,
    )


def make_transforms(store: MessageStore, poses: Sequence[StampedPose]) -> Any:
    """Return a message for /tf or /tf_static with several transforms."""
    return store["tf2_msgs/TFMessage"](
        transforms=[
            store["geometry_msgs/TransformStamped"](
                header=make_header(store, pose.timestamp_us, pose.parent),
                child_frame_id=pose.child,
                transform=store["geometry_msgs/Transform"](
                    translation=make_vector(store, pose.parent_from_child[:3, 3]),
                    rotation=_quaternion(store, pose.parent_from_child),
                ),
            )
            for pose in poses
        ]
    )


def make_odometry(
    store: MessageStore,
    pose: StampedPose,
    linear_mps: Floats,  # (3,) in the child's axes
    angular_radps: Floats,  # (3,) in the child's axes
) -> Any:
    """Return a pose and its motion; unknown covariances are 0."""
    x, y, z = pose.parent_from_child[:3, 3].tolist()
    inner = store["geometry_msgs/Pose"](
        position=store["geometry_msgs/Point"](x=x, y=y, z=z),
        orientation=_quaternion(store, pose.parent_from_child),
    )
    twist = store["geometry_msgs/Twist"](
        linear=make_vector(store, linear_mps), angular=make_vector(store, angular_radps)
    )
    return store["nav_msgs/Odometry"](
        header=make_header(store, pose.timestamp_us, pose.parent),
        child_frame_id=pose.child,
        pose=store["geometry_msgs/PoseWithCovariance"](pose=inner, covariance=np.zeros(36)),
        twist=store["geometry_msgs/TwistWithCovariance"](twist=twist, covariance=np.zeros(36)),
    )


def make_clock(store: MessageStore, timestamp_us: int) -> Any:
    """Return a message for /clock."""
    return store["rosgraph_msgs/Clock"](clock=make_time(store, timestamp_us))


def _quaternion(store: MessageStore, parent_from_child: Floats) -> Any:
    rotation = torch.from_numpy(np.ascontiguousarray(parent_from_child[:3, :3]))
    w, x, y, z = quaternion_from_rotation(rotation).tolist()
    return store["geometry_msgs/Quaternion"](x=x, y=y, z=z, w=w)
