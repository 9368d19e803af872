"""A node on the fake rclpy, and another node that sends what four cameras see."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.managed_node import ManagedNode
from bevstack.runtime.ros.rclpy import RclpyTransport
from bevstack.runtime.ros.wiring import make_node
from tests.runtime.node.inputs import CAMERAS, FakeDetector, jpeg, mounted
from tests.runtime.ros.fake_rclpy.network import Network
from tests.runtime.ros.fake_rclpy.values import DurabilityPolicy, ReliabilityPolicy

SENSORS = {"reliability": ReliabilityPolicy.BEST_EFFORT}
LATCHED = {"durability": DurabilityPolicy.TRANSIENT_LOCAL}


class Rig:
    """A node on the fake network, and another node that sends what four cameras see."""

    def __init__(self, network: Network, **settings: object) -> None:
        values = {"cameras": CAMERAS, "diagnostics_rate_hz": 10, "max_age_ms": 60_000, **settings}
        self.network, self.detector = network, FakeDetector()
        self.parameters = Parameters(values)
        self.transport = RclpyTransport(network.store, self.parameters)
        parts = make_node(self.detector, self.parameters, network.store, model="f", times=True)
        self.node = ManagedNode(parts, self.transport)
        self.own = network.nodes["bevstack"]
        self.ended = threading.Event()
        self.objects = network.listen("/bevstack/detections", "vision_msgs/Detection3DArray")
        self.now_us = time.time_ns() // 1000
        self._runner: threading.Thread | None = None

    def start(self) -> None:
        self.node.start()
        self._runner = threading.Thread(target=self.node.run_until, args=(self.ended,))
        self._runner.start()

    def stop(self) -> float:
        """End the node, and return the seconds that it took."""
        assert self._runner is not None
        begin = time.monotonic()
        self.ended.set()
        self._runner.join(30)
        assert not self._runner.is_alive()
        return time.monotonic() - begin

    def header(self, frame: str, time_us: int | None = None) -> Any:
        seconds, micros = divmod(self.now_us if time_us is None else time_us, 1_000_000)
        stamp = self.network.message("builtin_interfaces/Time", sec=seconds, nanosec=1000 * micros)
        return self.network.message("std_msgs/Header", stamp=stamp, frame_id=frame)

    def send_places(self) -> None:
        message, transforms = self.network.message, []
        for camera in CAMERAS:
            place = mounted(camera)
            w, x, y, z = place.rotation_wxyz.tolist()
            to_x, to_y, to_z = place.translation_m.tolist()
            transform = message(
                "geometry_msgs/Transform",
                translation=message("geometry_msgs/Vector3", x=to_x, y=to_y, z=to_z),
                rotation=message("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w),
            )
            transforms.append(
                message(
                    "geometry_msgs/TransformStamped",
                    header=self.header("base_link"),
                    child_frame_id=place.child,
                    transform=transform,
                )
            )
        places = message("tf2_msgs/TFMessage", transforms=transforms)
        self.network.publish("/tf_static", places, **LATCHED)

    def send_cycle(self) -> None:
        """Send images of all cameras at the present time, and the pose before and after."""
        message = self.network.message
        for time_us in (self.now_us - 10_000, self.now_us + 10_000):
            odometry = message(
                "nav_msgs/Odometry", header=self.header("odom", time_us), child_frame_id="base_link"
            )
            odometry.pose.pose.orientation.w = 1.0
            self.network.publish("/odom", odometry)
        k = np.array([[30.0, 0.0, 20.5], [0.0, 30.0, 11.5], [0.0, 0.0, 1.0]])
        for camera in CAMERAS:
            header = self.header(f"{camera.lower()}_optical_frame")
            info = message(
                "sensor_msgs/CameraInfo",
                header=header,
                height=24,
                width=40,
                distortion_model="plumb_bob",
                k=k.ravel().tolist(),
                r=np.eye(3).ravel().tolist(),
                p=np.hstack((k, np.zeros((3, 1)))).ravel().tolist(),
            )
            image = message(
                "sensor_msgs/CompressedImage", header=header, format="jpeg", data=list(jpeg())
            )
            self.network.publish(f"/{camera}/camera_info", info, **SENSORS)
            self.network.publish(f"/{camera}/image_raw/compressed", image, **SENSORS)

    def cycle_until_result(self) -> Any:
        """Send cycles until a further result comes; return it."""
        count = len(self.objects)
        end = time.monotonic() + 60
        while len(self.objects) == count:
            assert time.monotonic() < end
            self.now_us = max(self.now_us + 100_000, time.time_ns() // 1000)
            self.send_cycle()
            time.sleep(0.1)
        return self.objects[-1]
