"""Topics that the node subscribes, and the way of their messages into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bevstack.runtime.node.inputs import CameraInfo, Image, Odometry, Transform
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.decoding import (
    camera_info_from,
    clock_from,
    compressed_image_from,
    image_from,
    odometry_from,
    transforms_from,
)
from bevstack.runtime.ros.quality import SENSOR_DATA, SUBSCRIPTION, Quality, overridden

CLOCK_TOPIC, TF_TOPIC, TF_STATIC_TOPIC = "/clock", "/tf", "/tf_static"


class NodeInput(Protocol):
    """Taker of all that a node subscribes; ``NodeCore`` is one."""

    def add_image(self, camera: str, image: Image, now_us: int) -> None:
        """Take an image."""

    def add_info(self, camera: str, info: CameraInfo, now_us: int) -> None:
        """Take a calibration."""

    def add_odometry(self, message: Odometry) -> None:
        """Take the vehicle's pose."""

    def add_transform(self, message: Transform) -> None:
        """Take a transform."""


Deliver = Callable[[NodeInput, Any, int], None]  # message, time on the node's clock


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """A topic with the function that gives its messages to the node."""

    topic: str
    type_name: str  # such as "sensor_msgs/msg/Image"
    quality: Quality
    deliver: Deliver


def subscriptions(parameters: Parameters) -> list[Subscription]:
    """Return all topics that a node of given parameters subscribes, but for the clock.

    Raises:
        ValueError: a quality of service among the parameters is wrong.
    """
    given = parameters.qos_overrides
    return [
        replace(own, quality=overridden(own.quality, own.topic, SUBSCRIPTION, given))
        for own in _default_subscriptions(parameters)
    ]


def _default_subscriptions(parameters: Parameters) -> list[Subscription]:
    found = [
        Subscription(
            topic=TF_STATIC_TOPIC,
            type_name="tf2_msgs/msg/TFMessage",
            quality=Quality(depth=100, reliable=True, latched=True),
            deliver=_deliver_transforms(is_static=True),
        ),
        Subscription(
            topic=TF_TOPIC,
            type_name="tf2_msgs/msg/TFMessage",
            quality=Quality(depth=100, reliable=True),
            deliver=_deliver_transforms(is_static=False),
        ),
    ]
    if parameters["ego_motion"] == "odometry":
        found.append(
            Subscription(
                topic=parameters["odometry_topic"],
                type_name="nav_msgs/msg/Odometry",
                quality=Quality(depth=100, reliable=False),
                deliver=lambda core, message, now_us: core.add_odometry(odometry_from(message)),
            )
        )
    for camera in parameters.cameras:
        found += _camera_subscriptions(parameters, camera)
    return found


def clock_us(message: Any) -> int:
    """Return the time of a message of /clock.

    Raises:
        ValueError: the time is impossible.
    """
    return clock_from(message).timestamp_us


def _camera_subscriptions(parameters: Parameters, camera: str) -> list[Subscription]:
    is_file = parameters["image_transport"] == "compressed"
    from_message = compressed_image_from if is_file else image_from
    kind = "CompressedImage" if is_file else "Image"

    def deliver_image(core: NodeInput, message: Any, now_us: int) -> None:
        core.add_image(camera, from_message(message), now_us)

    def deliver_info(core: NodeInput, message: Any, now_us: int) -> None:
        core.add_info(camera, camera_info_from(message), now_us)

    return [
        Subscription(
            topic=parameters.image_topic(camera),
            type_name=f"sensor_msgs/msg/{kind}",
            quality=SENSOR_DATA,
            deliver=deliver_image,
        ),
        Subscription(
            topic=parameters.info_topic(camera),
            type_name="sensor_msgs/msg/CameraInfo",
            quality=Quality(depth=1, reliable=False),
            deliver=deliver_info,
        ),
    ]


def _deliver_transforms(*, is_static: bool) -> Deliver:
    def deliver(core: NodeInput, message: Any, now_us: int) -> None:
        for transform in transforms_from(message, is_static=is_static):
            core.add_transform(transform)

    return deliver
